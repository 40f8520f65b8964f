"""The fast mode of decoding: the same photos, refused for the same reasons, nearly the same pixels."""

import io
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.photos import Photo, encode_photo
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import DecodeMode, PhotoFile, decode_photo
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_sizes import fit_pixels
from tests.conftest import MISSION

WIDTH, HEIGHT = 640, 416
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "without subsampling": {"subsampling": 0},
    "restart markers": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "mpo": {"format": "MPO"},
}
SCALES = {1: (600, 400), 2: (320, 208), 4: (150, 100), 8: (64, 40)}
"""Sizes that are wanted, by the scale at which libjpeg is to decode: 1/1, 1/2, 1/4, 1/8."""


def scene() -> Image.Image:
    """Smooth, without symmetry, and not grey in any corner."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    waves = 40 * np.sin(9 * x + 5 * y)
    bands = [170 * x + 40 + waves, 160 * y + 50, 255 * (1 - x) * (1 - y) + 20]
    return Image.fromarray(np.stack(bands, axis=-1).clip(0, 255).astype(np.uint8))


def noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, *, mode: str = "RGB", format: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.convert(mode).save(out, format, quality=90, **options)
    return out.getvalue()


def decode(data: bytes, mode: DecodeMode, size: tuple[int, int]) -> Image.Image:
    return decode_photo(PhotoFile(Path("g/1.jpg"), data, ""), fit=lambda *_: size, decode=mode)


def refusal(data: bytes, mode: DecodeMode, size: tuple[int, int]) -> tuple[str, str] | None:
    try:
        decode(data, mode, size)
    except PhotoError as error:
        return error.reason, str(error)
    return None


def psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The sizes at which libjpeg decoded, in order."""
    from PIL.JpegImagePlugin import JpegImageFile

    sizes, load = [], JpegImageFile.load

    def noted(picture: JpegImageFile) -> Any:
        if picture.tile:
            sizes.append(picture.size)
        return load(picture)

    monkeypatch.setattr(JpegImageFile, "load", noted)
    return sizes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
def test_fast_decodes_at_the_smallest_scale_not_below_what_is_wanted(decoded_sizes, kind, scale):
    data, size = encode(scene(), **KINDS[kind]), SCALES[scale]
    exact = decode(data, "exact", size)
    assert decoded_sizes == [(WIDTH, HEIGHT)]
    fast = decode(data, "fast", size)
    assert decoded_sizes[1:] == [(WIDTH // scale, HEIGHT // scale)]
    assert (fast.mode, fast.size) == ("RGB", size)
    assert psnr(exact, fast) > 38
    assert (fast.tobytes() == exact.tobytes()) is (scale == 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_the_same_photo_in_both_modes(decoded_sizes, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(), exif=exif)
    # Turned, twice of it would have no room in one direction.
    size = (320, 100) if orientation <= 4 else (100, 320)
    exact, fast = decode(data, "exact", size), decode(data, "fast", size)
    assert decoded_sizes == [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2)]
    assert (exact.size, fast.size) == (size, size)
    assert psnr(exact, fast) > 35


def test_fit_is_asked_for_the_whole_photo_in_both_modes():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = PhotoFile(Path("1.jpg"), encode(scene(), exif=exif), "")
    asked = []

    def fit(width: int, height: int) -> tuple[int, int]:
        asked.append((width, height))
        return fit_pixels(width, height, factor=32, min_pixels=1, max_pixels=40_000)

    sizes = [decode_photo(photo, fit=fit, decode=mode).size for mode in ("exact", "fast")]
    assert sizes[0] == sizes[1]
    assert set(asked) == {(HEIGHT, WIDTH)}


def test_without_a_size_nothing_is_made_smaller():
    photo = PhotoFile(Path("1.jpg"), encode(scene()), "")
    assert decode_photo(photo, decode="fast").tobytes() == decode_photo(photo).tobytes()


def test_a_png_is_the_same_in_both_modes():
    data = encode(scene(), format="PNG")
    assert decode(data, "fast", (80, 52)).tobytes() == decode(data, "exact", (80, 52)).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [SCALES[2], SCALES[8]])
def test_both_modes_refuse_the_same_cuts_for_the_same_reason(kind, size):
    data = encode(noise(), **KINDS[kind])
    cuts = [data[:end] for end in range(8, len(data), len(data) // 12)]
    closed = [cut.rstrip(b"\xff") + b"\xff\xd9" for cut in cuts]
    reasons = [refusal(cut, "fast", size) for cut in (*cuts, *closed)]
    assert reasons == [refusal(cut, "exact", size) for cut in (*cuts, *closed)]
    assert {reason[0] for reason in reasons if reason} >= {"truncated"}


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_photo_that_ends_in_grey_is_complete(mode, progressive):
    framed = noise()
    framed.paste("#808080", (0, HEIGHT // 2, WIDTH, HEIGHT))
    assert refusal(encode(framed, mode=mode, progressive=progressive), "fast", SCALES[8]) is None


def test_a_cut_that_leaves_no_trace_at_a_smaller_scale_is_noticed():
    """Zeros repeat the last block's brightness, which here is that of the filler."""
    framed = noise()
    framed.paste("#808080", (0, HEIGHT // 2, WIDTH, HEIGHT))
    data = encode(framed, restart_marker_rows=1)
    cut = data[: int(len(data) * 0.9995)].rstrip(b"\xff") + b"\xff\xd9"
    assert refusal(cut, "fast", SCALES[8]) == refusal(cut, "exact", SCALES[8])


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_an_extreme_photo_that_is_cut_is_refused_for_the_same_reason(end):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 4000, 3), dtype=np.uint8))
    data = encode(image)
    cut = PhotoFile(Path("1.jpg"), data[: len(data) // 2] + end, "")
    whole = PhotoFile(Path("1.jpg"), data, "")

    def fit(width: int, height: int) -> tuple[int, int]:
        return fit_pixels(width, height, factor=32, min_pixels=1, max_pixels=40_000)

    for photo, reason in ((cut, "truncated"), (whole, "extreme_aspect")):
        for mode in ("exact", "fast"):
            with pytest.raises(PhotoError) as error:
                decode_photo(photo, fit=fit, decode=mode)
            assert error.value.reason == reason


def test_a_rendered_phone_photo_stays_close_to_the_exact_one():
    photo = Photo(compose_scene(Random(3), load_missions()[MISSION]), (2048, 1536), 6, 90)
    data = encode_photo(photo)
    size = fit_pixels(2048, 1536, factor=32, min_pixels=1, max_pixels=262_144)
    assert psnr(decode(data, "exact", size), decode(data, "fast", size)) > 36

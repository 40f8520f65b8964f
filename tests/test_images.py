import hashlib
import io
import math
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFile, ImageOps
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from stage_a_pipeline import images
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import (
    PhotoFile,
    PhotoReason,
    decode_photo,
    read_photo,
    rgb_sha256,
    thumbnail_jpeg,
)
from stage_a_pipeline.photo_sizes import fit_pixels, most_pixels


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A smooth picture without symmetry, whose corners differ and are not grey."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    bands = [200 * x + 30, 180 * y + 20, 255 * (1 - x) * (1 - y)]
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))


def noise(width: int = 96, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def photo(data: bytes) -> PhotoFile:
    return PhotoFile(Path("in/g/photo.jpg"), data, hashlib.sha256(data).hexdigest())


def decode(data: bytes) -> Image.Image:
    return decode_photo(photo(data))


def refusal(data: bytes) -> str:
    with pytest.raises(PhotoError) as error:
        decode(data)
    assert "in/g/photo.jpg" in str(error.value)
    assert error.value.reason in get_args(PhotoReason)
    return error.value.reason


def same(one: Image.Image, other: Image.Image, tolerance: int = 0) -> bool:
    difference = np.asarray(ImageChops.difference(one, other))
    return one.size == other.size and one.mode == other.mode and int(difference.max()) <= tolerance


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010F] = "Camera"
    return data


# Reading


def test_a_photo_is_read_once_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    data = encode(scene())
    path = tmp_path / "1.jpg"
    path.write_bytes(data)
    read = read_photo(path)
    path.unlink()
    assert (read.path, read.sha256) == (path, hashlib.sha256(data).hexdigest())
    assert decode_photo(read).size == (96, 64)


def write_empty(path: Path) -> None:
    path.write_bytes(b"")


def write_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)


def leave_missing(path: Path) -> None:
    pass


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "reason", "told"),
    [
        (write_empty, "empty", "zero bytes"),
        (write_huge, "too_large", "256 MiB"),
        (leave_missing, "unreadable", "No such file"),
        (make_loop, "unreadable", "symbolic links"),
        (Path.mkdir, "unreadable", "not a regular file"),
        (os.mkfifo, "unreadable", "not a regular file"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(tmp_path: Path, make: Any, reason: str, told: str) -> None:
    path = tmp_path / "1.jpg"
    make(path)
    with pytest.raises(PhotoError, match=told) as error:
        read_photo(path)
    assert error.value.reason == reason
    assert str(path) in str(error.value)


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)


def test_a_forbidden_photo_is_unreadable(as_ordinary_user: Path) -> None:
    path = as_ordinary_user / "1.jpg"
    path.write_bytes(encode(scene()))
    path.chmod(0)
    with pytest.raises(
        PhotoError, match="Permission denied; check that it is there, and its permissions"
    ) as error:
        read_photo(path)
    assert error.value.reason == "unreadable"


# Formats, by content


@pytest.mark.parametrize("format", ["JPEG", "PNG", "MPO"])
def test_the_content_tells_the_format(format: str) -> None:
    assert same(decode(encode(scene(), format, quality=95)), scene(), tolerance=8)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF"])
def test_other_pictures_are_refused_by_name(format: str) -> None:
    with pytest.raises(
        PhotoError, match="picture, whatever its suffix says; convert it to JPEG or PNG"
    ) as error:
        decode(encode(scene(), format))
    assert error.value.reason == "unsupported_format"
    assert format.replace("JPEG2000", "JPEG 2000").replace("WEBP", "WebP") in str(error.value)


def test_heic_from_a_phone_is_refused_by_name() -> None:
    assert refusal(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(64)) == "unsupported_format"


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b'{"error": "expired"}',
        b"%PDF-1.4\n",
        b"\n" + encode(scene()),
        b"\xff\xd8",
        b"x",
        bytes(4096),
        bytes(range(256)),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refusal(data) == "not_an_image"


def test_the_refusal_shows_how_the_file_begins() -> None:
    with pytest.raises(PhotoError, match="begins with '<!DOCTYPE html>"):
        decode(b"<!DOCTYPE html><html></html>")
    with pytest.raises(PhotoError, match="nothing but zeros"):
        decode(bytes(99))


# Completeness

COMPLETE = {
    "baseline": encode(noise()),
    "progressive": encode(noise(), progressive=True),
    "restart markers": encode(noise(), restart_marker_rows=1),
    "without subsampling": encode(noise(), subsampling=0),
    "grey": encode(noise().convert("L")),
    "with thumbnail": encode(noise(), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encode(noise(8, 8))),
    "png": encode(noise(), "PNG"),
    "interlaced palette png": encode(noise().quantize(), "PNG"),
}


@pytest.mark.parametrize("kind", COMPLETE)
def test_a_photo_cut_anywhere_is_truncated(kind: str) -> None:
    data = COMPLETE[kind]
    decode(data)
    cuts = [*range(8, len(data), len(data) // 100), *range(len(data) - 16, len(data))]
    assert {refusal(data[:cut]) for cut in cuts} == {"truncated"}


def test_a_picture_that_an_end_marker_cuts_short_is_truncated() -> None:
    """libjpeg fills in grey, and Pillow says nothing."""
    for kind in ("baseline", "restart markers", "without subsampling", "grey"):
        data = COMPLETE[kind]
        for share in (0.3, 0.6, 0.9, 0.95):
            cut = data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9"
            with Image.open(io.BytesIO(cut)) as tolerant:
                tolerant.load()
            assert refusal(cut) == "truncated", (kind, share)


def test_a_png_whose_data_an_end_chunk_cuts_short_is_refused() -> None:
    data = COMPLETE["png"]
    for cut in range(100, len(data) - 40, len(data) // 50):
        assert refusal(data[:cut] + data[-12:]) == "corrupt"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_photo_that_ends_in_grey_is_complete(mode: str, progressive: bool) -> None:
    plain = Image.new(mode, (40, 40), "#808080")
    framed = noise(40, 40).convert(mode)
    framed.paste(plain.crop((0, 0, 40, 20)), (0, 20))
    for image in (plain, framed):
        assert decode(encode(image, progressive=progressive)).getpixel((39, 39)) == (128, 128, 128)


def test_a_truncated_photo_is_refused_even_where_a_library_made_pillow_tolerant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert refusal(COMPLETE["baseline"][:-900]) == "truncated"
    assert refusal(COMPLETE["png"][:-900]) == "truncated"


@pytest.mark.parametrize("kind", ["baseline", "png"])
def test_bytes_after_the_end_do_no_harm(kind: str) -> None:
    assert same(decode(COMPLETE[kind] + b"\0trailer" * 50), decode(COMPLETE[kind]))


def test_a_photo_full_of_bit_rot_is_corrupt() -> None:
    for packing in (0, 6):
        whole = encode(noise(), "PNG", compress_level=packing)
        for place in range(whole.index(b"IDAT") + 4, len(whole) - 20, len(whole) // 50):
            png = bytearray(whole)
            png[place] ^= 1
            assert refusal(bytes(png)) == "corrupt"
    jpeg = bytearray(COMPLETE["baseline"])
    start = jpeg.index(b"\xff\xc4")
    jpeg[start + 2 : start + 30] = b"\xaa" * 28
    assert refusal(bytes(jpeg)) == "corrupt"


# Bombs


def bare_png(
    width: int, height: int, *, color: int = 2, depth: int = 8, pixels: bytes = b"", extra: bytes = b""
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    trns = chunk(b"tRNS", extra) if extra else b""
    body = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + trns + body + chunk(b"IEND", b"")


def jpeg_announcing(width: int, height: int) -> bytes:
    data = bytearray(encode(scene()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [bare_png(100_000, 100_000), bare_png(2**31 - 1, 2**31 - 1), jpeg_announcing(65_535, 65_535)],
    ids=["png", "png at its limit", "jpeg"],
)
def test_a_decompression_bomb_is_refused_by_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the bomb was decoded"))
    assert refusal(data) == "too_large"


def test_the_pixel_limit_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encode(scene())
    assert decode_photo(photo(data), max_image_pixels=96 * 64).size == (96, 64)
    with pytest.raises(PhotoError, match="announces 96x64 pixels, above the limit of 6143") as error:
        decode_photo(photo(data), max_image_pixels=96 * 64 - 1)
    assert error.value.reason == "too_large"


# Upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_photo_stands_upright_whatever_its_exif_orientation(orientation: int, format: str) -> None:
    data = encode(scene(), format, exif=exif(orientation))
    upright = decode(data)
    with Image.open(io.BytesIO(data)) as expected:
        assert same(upright, ImageOps.exif_transpose(expected))
    assert upright.size == ((96, 64) if orientation <= 4 else (64, 96))


def test_an_upright_photo_is_not_turned_again_by_its_metadata() -> None:
    upright = decode(encode(scene(), exif=exif(6)))
    assert upright.info == {}
    assert ImageOps.exif_transpose(upright).size == upright.size


def test_orientation_is_found_in_xmp_too() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(encode(scene(), xmp=xmp)).size == (64, 96)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    assert decode(encode(scene(), exif=exif(orientation))).size == (96, 64)


def tiff_entries(*entries: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


CORRUPT_EXIF = {
    "garbage": b"Exif\0\0" + bytes(range(200)),
    "cut header": b"Exif\0\0II*\0",
    "offset to nowhere": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "too many entries": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40),
    "resolution without a value": tiff_entries(
        b"\x1a\x01\x05\0\0\0\0\0\0\0\0\0", b"\x28\x01\x03\0\x01\0\0\0\x02\0\0\0"
    ),
    "orientation as text": tiff_entries(b"\x12\x01\x02\0\x02\0\0\0006\0\0\0"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CORRUPT_EXIF)
def test_corrupt_exif_never_costs_the_photo(kind: str) -> None:
    assert same(decode(encode(scene(), exif=CORRUPT_EXIF[kind])), decode(encode(scene())))


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xed\0\x15Photoshop 3.0\x008BIM\x03",
        b"\xff\xe2\0\x0eICC_PROFILE\0",
        b"\xff\xe2\0\x0aMPF\0II*\0",
        b"\xff\xe1\0\x02",
        b"\xff\xff\xff\xe1\0\x08Exif\0\0",
    ],
)
def test_damage_in_any_metadata_never_costs_the_photo(segment: bytes) -> None:
    data = encode(scene())
    assert same(decode(data[:2] + segment + data[2:]), decode(data))


@pytest.mark.filterwarnings("ignore")
def test_random_damage_in_exif_never_costs_the_photo() -> None:
    data = encode(scene(), exif=exif(6))
    start = data.index(b"Exif\0\0") + 6
    end = start + data[start:].index(b"\xff\xdb")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(start, end, 6):
            damaged[place] = rng.integers(256)
        assert sorted(decode(bytes(damaged)).size) == [64, 96]


# Colours

GREYS = np.tile(np.linspace(0, 65535, 96).astype(np.uint16), (64, 1))


def translucent(mode: str) -> Image.Image:
    """Left half opaque, right half transparent, in every mode that can be."""
    image = scene().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste(scene().crop((0, 0, 48, 64)), (0, 0))
    return image.quantize() if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    decoded = decode(encode(translucent(mode), "PNG"))
    assert decoded.mode == "RGB"
    assert decoded.crop((48, 0, 96, 64)).getextrema() == ((255, 255),) * 3
    opaque = scene().convert(mode if mode != "P" else "RGB").convert("RGB")
    assert same(decoded.crop((0, 0, 48, 64)), opaque.crop((0, 0, 48, 64)), tolerance=40 if mode == "P" else 0)


def test_half_transparency_is_mixed_with_white() -> None:
    decoded = decode(encode(Image.new("RGBA", (4, 4), (0, 100, 200, 128)), "PNG"))
    assert same(decoded, Image.new("RGB", (4, 4), (127, 177, 227)), tolerance=1)


@pytest.mark.parametrize(
    ("image", "transparency"),
    [
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (Image.new("L", (4, 4), 77), 77),
        (Image.new("1", (4, 4), 0), 0),
        (Image.fromarray(np.full((4, 4), 40_000, np.uint16)), 40_000),
        (Image.new("P", (4, 4), 0), 0),
    ],
    ids=["RGB", "L", "1", "I;16", "P"],
)
def test_the_colour_named_transparent_becomes_white(image: Image.Image, transparency: Any) -> None:
    decoded = decode(encode(image, "PNG", transparency=transparency))
    assert decoded.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA"])
def test_every_grey_and_palette_mode_keeps_its_picture(mode: str) -> None:
    image = scene().quantize() if mode == "P" else scene().convert(mode)
    assert same(decode(encode(image, "PNG")), image.convert("RGB"))


def test_a_grey_jpeg_is_rgb() -> None:
    decoded = decode(encode(scene().convert("L"), quality=95))
    assert same(decoded, scene().convert("L").convert("RGB"), tolerance=6)


@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_sixteen_bits_are_scaled_not_clipped(color: int) -> None:
    bands = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    values = np.repeat(GREYS[:, :, None], bands, axis=2)
    if color in (4, 6):
        values[:, :, -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    decoded = decode(bare_png(96, 64, color=color, depth=16, pixels=rows))
    expected = Image.fromarray((GREYS >> 8).astype(np.uint8)).convert("RGB")
    assert same(decoded, expected)


def test_a_transparent_colour_of_sixteen_bits_is_understood() -> None:
    rows = (b"\0" + struct.pack(">HHH", 40_000, 300, 7) * 4) * 4
    extra = struct.pack(">HHH", 40_000, 300, 7)
    assert decode(bare_png(4, 4, depth=16, pixels=rows, extra=extra)).getextrema() == ((255, 255),) * 3


def test_cmyk_of_adobe_keeps_its_colours() -> None:
    for colour in ("white", "black", "red"):
        image = Image.new("RGB", (16, 16), colour)
        assert same(decode(encode(image.convert("CMYK"), quality=95)), image, tolerance=6)


def test_ycck_is_read_as_cmyk() -> None:
    data = bytearray(encode(scene().convert("CMYK"), quality=95))
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0
    data[adobe + 11] = 2
    with Image.open(io.BytesIO(bytes(data))) as expected:
        assert same(decode(bytes(data)), expected.convert("RGB"))


@pytest.mark.parametrize("format", ["PNG", "MPO"])
def test_of_several_frames_the_first_is_taken(format: str) -> None:
    other = Image.new("RGB", (96, 64), "red")
    data = encode(scene(), format, save_all=True, append_images=[other, other])
    assert same(decode(data), decode(encode(scene(), "PNG" if format == "PNG" else "JPEG")))


# Size


def test_the_photo_is_resized_once_bicubic_to_what_fits_its_upright_size() -> None:
    asked: list[tuple[int, int]] = []

    def fit(width: int, height: int) -> tuple[int, int]:
        asked.append((width, height))
        return 32, 64

    data = encode(noise(), exif=exif(6))
    fitted = decode_photo(photo(data), fit=fit)
    assert asked == [(64, 96)]
    assert same(fitted, decode(data).resize((32, 64), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("fit", [None, lambda width, height: (width, height), lambda width, height: (64, 32)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_the_result_holds_its_pixels_and_no_file(fit: Any, format: str, tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    path.write_bytes(encode(scene(), format, comment="x", exif=exif(1)))
    decoded = decode_photo(read_photo(path), fit=fit)
    assert type(decoded) is Image.Image
    assert (decoded.mode, decoded.info) == ("RGB", {})
    path.unlink()
    decoded.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (10, 10), (1, 5000), (5000, 1), (3, 600)])
def test_extreme_shapes_decode(size: tuple[int, int]) -> None:
    assert decode(encode(Image.new("RGB", size, "red"))).size == size


def test_a_shape_the_model_cannot_take_is_refused_with_the_file_named() -> None:
    fit = partial(fit_pixels, factor=32, min_pixels=4096, max_pixels=1 << 20)
    data = photo(encode(Image.new("RGB", (1, 5000))))
    with pytest.raises(PhotoError, match=r"in/g/photo\.jpg: 1x5000 pixels are more than 200 times") as error:
        decode_photo(data, fit=fit)
    assert error.value.reason == "extreme_aspect"


def test_an_error_of_the_callers_own_is_not_blamed_on_the_photo() -> None:
    def fit(width: int, height: int) -> tuple[int, int]:
        raise KeyError("a fault in the caller")

    with pytest.raises(KeyError):
        decode_photo(photo(encode(scene())), fit=fit)


@pytest.mark.parametrize(
    ("min_pixels", "max_pixels"), [(4096, 1 << 20), (65536, 1 << 24), (1, 1024), (200, 300)]
)
@pytest.mark.parametrize("factor", [28, 32])
def test_fitting_equals_the_librarys_own(factor: int, min_pixels: int, max_pixels: int) -> None:
    rng = np.random.default_rng(factor)
    sides = [1, 2, 9, 10, 15, 16, 17, 31, 32, 33, 48, 199, 200, 640, 1080, 4000, 65535]
    sizes = [(w, h) for w in sides for h in sides] + [
        tuple(map(int, rng.integers(1, 6000, 2))) for _ in range(1000)
    ]
    options = {"factor": factor, "min_pixels": min_pixels, "max_pixels": max_pixels}
    for width, height in sizes:
        try:
            expected = smart_resize(height, width, **options)[::-1]
        except ValueError:
            with pytest.raises(PhotoError):
                fit_pixels(width, height, **options)
            continue
        assert fit_pixels(width, height, **options) == expected, (width, height)


def test_an_aspect_of_exactly_two_hundred_fits() -> None:
    assert (
        fit_pixels(2000, 10, factor=32, min_pixels=4096, max_pixels=1 << 20)
        == smart_resize(10, 2000, 32, 4096, 1 << 20)[::-1]
    )


# Hash, preview, threads


def test_the_pixel_hash_is_of_the_rgb_bytes() -> None:
    assert rgb_sha256(scene()) == hashlib.sha256(np.asarray(scene()).tobytes()).hexdigest()


def test_a_preview_is_small_upright_and_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    path.write_bytes(encode(scene(1500, 1000), exif=exif(6), comment="secret"))
    encoded = thumbnail_jpeg(path, size=100)
    assert b"Exif" not in encoded
    assert b"secret" not in encoded
    assert len(encoded) < 4000
    with Image.open(io.BytesIO(encoded)) as preview:
        assert (preview.format, preview.size) == ("JPEG", (67, 100))
        upright = decode_photo(read_photo(path)).resize(preview.size, Image.Resampling.BICUBIC)
        assert same(preview.convert("RGB"), upright, tolerance=16)
    assert thumbnail_jpeg(read_photo(path), size=100) == encoded


def test_a_preview_of_a_broken_photo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"<html>")
    with pytest.raises(PhotoError):
        thumbnail_jpeg(tmp_path / "1.jpg")


def test_threads_decode_side_by_side_and_leave_no_global_changed() -> None:
    data = {
        index: encode(Image.new("RGB", (200, 100), (index, 2 * index, 255 - index))) for index in range(24)
    }
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, threading.active_count())

    def corner(index: int) -> int:
        if index % 3 == 0:
            assert refusal(data[index][:-50]) == "truncated"
        pixel = decode(data[index]).getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return abs(pixel[0] - index)

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(corner, list(data) * 4)) <= 3
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, threading.active_count()) == before


@pytest.mark.parametrize(
    ("min_pixels", "max_pixels"), [(4096, 1 << 20), (65536, 1 << 24), (1, 1024), (1024, 1024), (40000, 53248)]
)
def test_no_photo_is_larger_than_the_most_that_is_said(min_pixels: int, max_pixels: int) -> None:
    options = {"factor": 32, "min_pixels": min_pixels, "max_pixels": max_pixels}
    rng = np.random.default_rng(5)
    sides = [1, 31, 33, 64, 200, 512, 4000]
    sizes = [(w, h) for w in sides for h in sides if max(w, h) <= 200 * min(w, h)]
    sizes += [(side, side * share) for side in (1, 3, 7, 20, 100) for share in range(1, 201)]
    sizes += [tuple(map(int, rng.integers(100, 6000, 2))) for _ in range(1000)]
    areas = [math.prod(fit_pixels(width, height, **options)) for width, height in sizes]
    assert max(areas) <= most_pixels(**options) <= max(2 * max(areas), 16 * 32 * 32)

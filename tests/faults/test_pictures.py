"""Every broken and every odd picture through the pipeline: a summary or a rejection, for its group alone."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.fake import FakeEngine
from stage_a_pipeline.images import decode_photo, read_photo
from stage_a_pipeline.prompts import Prompt
from tests.conftest import MISSION, write_photo
from tests.faults.conftest import HERE, group_folder

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))


def encoded(image: Image.Image = SCENE, format: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(exif=exif)


def frames(format: str) -> bytes:
    return encoded(SCENE, format, save_all=True, append_images=[SCENE.rotate(180)])


def bare_png(width: int, height: int, pixels: bytes = b"", *, depth: int = 8, color: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def jpeg_announcing(width: int, height: int) -> bytes:
    data = bytearray(encoded())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def text_bomb() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 50_000_000, zip=True)
    return encoded(SCENE, "PNG", pnginfo=text)


def rotten(data: bytes) -> bytes:
    start = data.index(b"\xff\xc4")
    return data[: start + 2] + b"\xaa" * 28 + data[start + 30 :]


JPEG = encoded()
SUMMARY = "summary"
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
    "zeros": (bytes(4096), "not_an_image"),
    "cut in its header": (JPEG[:20], "truncated"),
    "cut in its tables": (JPEG[:300], "truncated"),
    "cut in the middle": (JPEG[: len(JPEG) // 2], "truncated"),
    "cut before its end marker": (JPEG[:-2], "truncated"),
    "cut and closed again": (JPEG[: len(JPEG) // 2].rstrip(b"\xff") + b"\xff\xd9", "truncated"),
    "a cut png": (encoded(format="PNG")[:-200], "truncated"),
    "rotten tables": (rotten(JPEG), "corrupt"),
    "gif": (encoded(format="GIF"), "unsupported_format"),
    "animated gif": (frames("GIF"), "unsupported_format"),
    "webp": (encoded(format="WEBP"), "unsupported_format"),
    "animated webp": (frames("WEBP"), "unsupported_format"),
    "tiff": (encoded(format="TIFF"), "unsupported_format"),
    "bmp": (encoded(format="BMP"), "unsupported_format"),
    "avif": (encoded(format="AVIF"), "unsupported_format"),
    "a png that announces 60000x60000": (bare_png(60_000, 60_000), "too_large"),
    "a jpeg that announces 60000x60000": (jpeg_announcing(60_000, 60_000), "too_large"),
    "a png of 400 megapixels in 50 kB": (
        bare_png(20_000, 20_000, bytes(20_000 * 2501), depth=1, color=0),
        "too_large",
    ),
    "a png with a text of 50 MB in 50 kB": (text_bomb(), "corrupt"),
    "1x5000": (encoded(SCENE.resize((1, 5000))), "extreme_aspect"),
    "5000x1": (encoded(SCENE.resize((5000, 1))), "extreme_aspect"),
    "10x10": (encoded(SCENE.resize((10, 10))), SUMMARY),
    "1x1": (encoded(SCENE.resize((1, 1))), SUMMARY),
    "png by content": (encoded(format="PNG"), SUMMARY),
    "apng": (frames("PNG"), SUMMARY),
    "mpo": (frames("MPO"), SUMMARY),
    "cmyk": (encoded(SCENE.convert("CMYK")), SUMMARY),
    "grey": (encoded(SCENE.convert("L")), SUMMARY),
    "black and white": (encoded(SCENE.convert("1"), "PNG"), SUMMARY),
    "16 bits": (encoded(Image.fromarray(np.full((64, 96), 40_000, np.uint16)), "PNG"), SUMMARY),
    "alpha": (encoded(SCENE.convert("RGBA"), "PNG"), SUMMARY),
    "grey with alpha": (encoded(SCENE.convert("LA"), "PNG"), SUMMARY),
    "palette": (encoded(SCENE.quantize(), "PNG"), SUMMARY),
    "damaged exif": (encoded(exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40)), SUMMARY),
    "bytes after its end": (JPEG + b"\0trailer" * 50, SUMMARY),
    **{f"orientation {number}": (turned(number), SUMMARY) for number in range(1, 9)},
}
"""What a photo's file holds, and its reason of rejection, or that it gets a summary."""


def make_forbidden(path: Path) -> None:
    path.write_bytes(JPEG)
    path.chmod(0)


ENTRIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "nested_folder"),
    "pipe": (os.mkfifo, "special_file"),
    "dangling link": (lambda path: path.symlink_to("nowhere.jpg"), "broken_link"),
    "circle": (lambda path: path.symlink_to(path.name), "broken_link"),
}
"""What stands where a photo should be, and why discovery skips it."""


@pytest.fixture
def tree(make_workplace):
    """One group per file and entry: a good photo, then the odd one."""
    workplace = make_workplace({"fail": [2], "pass": [3]})
    for number, name in enumerate([*FILES, *ENTRIES]):
        folder = group_folder(workplace.root, name)
        write_photo(folder / "IMG_1.jpg", seed=1000 + number)
        if name in FILES:
            (folder / "IMG_2.jpg").write_bytes(FILES[name][0])
        else:
            ENTRIES[name][0](folder / "IMG_2.jpg")
    workplace.configure(engine={"batch_size": 8}, inference={"max_failed_fraction": 1.0})
    return workplace


def test_every_picture_ends_as_a_summary_or_a_rejection_and_touches_no_other_group(tree):
    ended = tree.run_here(workers=True)
    assert ended.code == 0, ended.output
    records, rejected = tree.records(), tree.rejected()
    outcomes = {name: SUMMARY for name in FILES if name in records and len(records[name].images) == 2}
    outcomes |= {group: row["reason"] for (group, image), row in rejected.items() if image == "IMG_2.jpg"}
    assert outcomes == {name: outcome for name, (_, outcome) in FILES.items()}
    assert {row["stage"] for row in rejected.values()} == {"read"}
    assert all(image == "IMG_2.jpg" for _, image in rejected), "no good photo is rejected"
    for name, (_, reason) in ENTRIES.items():
        assert f"/{name}/IMG_2.jpg ({reason})" in ended.output
        assert records[name].images == ("IMG_1.jpg",)
    assert "worker on cpu" not in ended.output, "no process died over a picture"
    for group in [*FILES, *ENTRIES]:
        for path in group_folder(tree.root, group).iterdir():
            if path.name == "IMG_2.jpg" and not path.is_dir():
                path.unlink()
    tree.configure(output={"output_dir": "good ones"})
    assert tree.run_here().code == 0
    good = tree.records()
    assert good.keys() == {*records, *(group for group, _ in rejected)}
    for group, record in records.items():
        assert record.summaries[0] == good[group].summaries[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_forbidden_photo_is_rejected_and_costs_its_group_alone(make_workplace):
    workplace = make_workplace({"fail": [2], "pass": [3]})
    make_forbidden(group_folder(workplace.root, "forbidden") / "IMG_1.jpg")
    assert workplace.run_here().code == 0
    assert workplace.rejected()["forbidden", "IMG_1.jpg"]["reason"] == "unreadable"


def test_a_photo_gets_the_same_answer_whatever_its_exif_orientation(make_workplace):
    """Stored turned and marked so, without loss: upright, all eight are the same pixels."""
    workplace = make_workplace({"pass": [1]})
    folder = group_folder(workplace.root, "turned")
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = SCENE.transpose(undo[orientation]) if orientation in undo else SCENE
        stored.save(folder / f"IMG_{orientation}.png", exif=exif)
    (folder / "IMG_9.png").write_bytes(encoded(SCENE.rotate(180), "PNG"))
    assert workplace.run_here().code == 0
    *turned_ones, other = workplace.records()["turned"].summaries
    assert len(set(turned_ones)) == 1
    assert other not in turned_ones


@pytest.mark.parametrize("refill", ["false", "true"])
def test_no_photo_gets_the_answer_of_another_in_batches_of_mixed_sizes(make_workplace, refill):
    """Each photo has a colour and a size of its own; each answer is that of its photo asked alone."""
    workplace = make_workplace({"pass": [1]})
    sizes = [(96, 64), (64, 96), (300, 20), (33, 470), (512, 512), (10, 10), (1000, 700)]
    alone: dict[tuple[str, str], str] = {}
    engine = FakeEngine()
    fit = partial(engine.target_size, max_pixels=1_048_576)
    for number in range(42):
        path = group_folder(workplace.root, f"G{number // 4:02d}") / f"IMG_{number}.png"
        colour = (number * 6, 255 - number * 6, (number * 53) % 256)
        Image.new("RGB", sizes[number % len(sizes)], colour).save(path)
        request = Request("alone", decode_photo(read_photo(path), fit=fit), Prompt("", ""))
        (answer,) = engine.generate([request], GenerationOptions(8))
        alone[path.parent.name, path.name] = answer.text
    assert len(set(alone.values())) > 35
    workplace.configure(f"refill = {refill}\n", engine={"batch_size": 5})
    assert workplace.run_here().code == 0
    delivered = {
        (group, name): text
        for group, record in workplace.records().items()
        for name, text in zip(record.images, record.summaries, strict=True)
    }
    assert {photo: delivered[photo] for photo in alone} == alone


def test_the_real_checkpoint_gives_the_same_file_one_by_one_and_in_a_mixed_batch(make_workplace):
    workplace = make_workplace({})
    write_demo_tree(workplace.root, missions=[MISSION], groups=3, seed=5)
    for number, path in enumerate(sorted(workplace.root.glob("*/*/*/*.jpg"))):
        scale = (0.1, 0.2, 0.35)[number % 3]
        with Image.open(path) as picture:
            small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        small.save(path)
    files = []
    for rows in (1, 5):
        workplace.configure(
            engine={"engine": "refill", "batch_size": rows, "max_new_tokens": 64},
            inference=HERE | {"max_failed_fraction": 0.9},
            output={"output_dir": f"rows {rows}"},
        )
        assert workplace.run_here().code == 0
        files.append(workplace.published())
    assert files[0] == files[1]
    assert len({text for record in workplace.records().values() for text in record.summaries}) > 2

"""Sizes from headers alone: right where they are told, None where they are not, never an exception."""

import io
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stage_a_pipeline.photo_headers import photo_size


def encode(format: str = "JPEG", *, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((97, 51)).convert(mode).save(out, format, **options)
    return out.getvalue()


def exif(orientation: int = 1, padding: int = 0) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes() + bytes(padding)


@pytest.mark.parametrize(
    "data",
    [
        encode(),
        encode(progressive=True),
        encode(mode="L"),
        encode(mode="CMYK"),
        encode(optimize=True, comment=b"c" * 5000),
        encode(exif=exif(6)),
        encode(exif=exif(padding=60_000), icc_profile=bytes(200_000)),
        encode("MPO"),
        encode("PNG"),
        encode("PNG", mode="LA"),
        encode()[:2] + b"\xff\xff\xff" + encode()[2:],
    ],
)
def test_the_size_is_read_as_it_is_stored(tmp_path, data):
    path = tmp_path / "1.jpg"
    path.write_bytes(data)
    assert photo_size(path) == (97, 51)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"<html>404</html>",
        bytes(4096),
        encode("WEBP"),
        encode()[:100],
        encode("PNG")[:20],
        b"\xff\xd8" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000,
        b"\xff\xd8\xff\xe0\0\0" * 1000,
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x61\1",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 0, 5),
    ],
)
def test_a_header_that_does_not_tell_is_none(tmp_path, data):
    path = tmp_path / "1.jpg"
    path.write_bytes(data)
    assert photo_size(path) is None


def test_a_hostile_header_is_given_up_soon(tmp_path, monkeypatch):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000)
    calls, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: (calls.append(1), pread(*arguments))[1])
    assert photo_size(path) is None
    assert len(calls) < 500


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), lambda path: None]
)
def test_what_is_no_file_has_no_size(tmp_path, make):
    path = tmp_path / "1.jpg"
    make(path)
    assert photo_size(path) is None


@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"\xff\xd8\xff", encode()[:200], encode("PNG")[:20]])
)
def test_no_bytes_cost_more_than_the_size(tmp_path_factory, data, start):
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(start + data)
    size = photo_size(path)
    assert size is None or min(size) > 0

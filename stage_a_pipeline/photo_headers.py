"""How large a photo is, from the first bytes of its file: nothing is decoded, hashed or judged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_PNG_START: Final = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_JPEG_START: Final = b"\xff\xd8\xff"
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment that tells a JPEG's size, by kind of coding."""

_START_OF_SCAN: Final = 0xDA
_MOST_SEGMENTS: Final = 200
"""Photos have ten or twenty before their frame; a hostile file has millions."""


def photo_size(path: Path) -> tuple[int, int] | None:
    """Width and height as they are stored, not turned by EXIF; None where the header does not tell.

    Never raises for what a file is or holds: reading it for its pixels tells what is wrong with it.
    """
    try:
        # Opening a named pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return size_in(descriptor) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None


def size_in(descriptor: int) -> tuple[int, int] | None:
    """The same of an open file."""
    start = os.pread(descriptor, 24, 0)
    if start.startswith(_PNG_START):
        return _positive(_number(start[16:20]), _number(start[20:24]))
    return _jpeg_size(descriptor) if start.startswith(_JPEG_START) else None


def _jpeg_size(descriptor: int) -> tuple[int, int] | None:
    position = 2
    for _ in range(_MOST_SEGMENTS):
        # Marker, length, and of a frame its precision, height and width.
        segment = os.pread(descriptor, 9, position)
        if len(segment) < 9 or segment[0] != 0xFF or segment[1] == _START_OF_SCAN:
            return None
        if segment[1] == 0xFF:
            position += 1
        elif segment[1] in _FRAMES:
            return _positive(_number(segment[7:9]), _number(segment[5:7]))
        else:
            position += 2 + _number(segment[2:4])
    return None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _positive(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width > 0 and height > 0 else None

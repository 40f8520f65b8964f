"""A JPEG file split into its picture and its metadata.

Decoding needs no metadata, and Pillow refuses a photo for damage in any of it. So the picture is
decoded without, and the orientation is looked up apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_START_OF_SCAN: Final = 0xDA
_KEPT_APPLICATION_SEGMENTS: Final = (0xE0, 0xEE)
"""JFIF and Adobe: they say how colours are coded."""

_WITHOUT_LENGTH: Final = frozenset([*range(0xC0), *range(0xD0, 0xDA)])

_METADATA: Final = {"exif": b"Exif\0\0", "xmp": b"http://ns.adobe.com/xap/1.0/\0"}


@dataclass(frozen=True, slots=True)
class JpegParts:
    """A JPEG without metadata, where its first scan begins, and the metadata that may tell orientation.

    `metadata` has the keys and values that Pillow has in `Image.info`.
    """

    picture: bytes
    scan_start: int
    metadata: dict[str, bytes]


def split_jpeg(data: bytes) -> JpegParts:
    """The parts of a JPEG file. From the first irregularity on, bytes count as picture, untouched."""
    kept: list[bytes | memoryview] = [data[:2]]
    metadata: dict[str, bytes] = {}
    position = 2
    view = memoryview(data)
    for marker, payload, end in _segments(data):
        if marker == 0xE1:
            _note_metadata(data[payload:end], metadata)
        if not 0xE0 <= marker <= 0xEF or marker in _KEPT_APPLICATION_SEGMENTS:
            kept.append(view[position:end])
        position = end
    scan_start = sum(map(len, kept))
    return JpegParts(b"".join([*kept, view[position:]]), scan_start, metadata)


def _note_metadata(payload: bytes, metadata: dict[str, bytes]) -> None:
    for key, prefix in _METADATA.items():
        if payload.startswith(prefix):
            # Pillow's EXIF starts with its prefix, its XMP does not.
            metadata.setdefault(key, payload if key == "exif" else payload[len(prefix) :])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start of payload and end of each segment before the first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        payload, end = position + 4, position + 2 + length
        if marker in _WITHOUT_LENGTH or marker == _START_OF_SCAN or length < 2 or end > len(data):
            return
        yield marker, payload, end
        position = end

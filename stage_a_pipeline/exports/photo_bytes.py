"""The bytes of the photos that go into an export, read a few ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, Literal

from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.exports.photos import DeliveredPhoto
from stage_a_pipeline.photo_source import PhotoSource

_AT_ONCE: Final = 8
"""A store takes its time over each, and no more of them than that stand in memory."""

Images = Literal["none", "copy", "embed"]
"""What an export takes of the photos themselves: nothing, files beside it, or bytes within it."""

PhotoWithBytes = tuple[DeliveredPhoto, bytes | None]


def without_bytes(photos: Iterable[DeliveredPhoto]) -> Iterator[PhotoWithBytes]:
    """The photos as they are; none is read."""
    return ((photo, None) for photo in photos)


def with_bytes(photos: Iterable[DeliveredPhoto], source: PhotoSource) -> Iterator[PhotoWithBytes]:
    """Each photo with its file's bytes, in order; None for one that is gone or cannot be read.

    Raises StoreError where no photo is to blame.
    """
    photos = iter(photos)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="export") as pool:
        while window := list(islice(photos, _AT_ONCE)):
            yield from zip(window, pool.map(partial(_read, source), window), strict=True)


def _read(source: PhotoSource, photo: DeliveredPhoto) -> bytes | None:
    if photo.place is None:
        return None
    try:
        return source.read(photo.place).data
    except PhotoError:
        # It was listed a moment ago: counted with those that are gone.
        return None

"""Where remembered answers stand, in 24 bytes each: a million of them must not fill a worker's memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

_KEY_BYTES: Final = 16
_OFFSET_BITS: Final = 47


class Place(NamedTuple):
    """The number of a file, below 65,536, and the offset of a line in it."""

    file: int
    offset: int


def answer_key(content_sha256: str | bytes, fingerprint: str | bytes) -> bytes:
    """16 bytes that stand for a photo's content and what its answer depends on."""
    parts = (part if isinstance(part, bytes) else part.encode() for part in (content_sha256, fingerprint))
    return hashlib.blake2b(b":".join(parts), digest_size=_KEY_BYTES).digest()


class AnswerIndex:
    """From keys to places: sorted arrays of what was there before, a dict of what is added.

    Of several answers under one key, the last is found.
    Reading is safe from other threads than the one that adds.
    """

    def __init__(self, answers: Iterable[tuple[bytes, Place]] = ()) -> None:
        keys, places = bytearray(), array("q")
        for key, place in answers:
            keys += key
            places.append(place.file << _OFFSET_BITS | place.offset)
        halves = np.frombuffer(keys, ">u8").reshape(-1, 2).astype(np.uint64)
        # The sort is stable: of equal keys, the last stays the last.
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        halves = halves[order]
        last = np.ones(len(order), bool)
        last[:-1] = (halves[1:] != halves[:-1]).any(axis=1)
        self._high, self._low = np.ascontiguousarray(halves[last].T)
        self._places = np.frombuffer(places, np.int64)[order[last]]
        self._added: dict[bytes, Place] = {}
        self._replaced = 0

    def __len__(self) -> int:
        return len(self._places) + len(self._added) - self._replaced

    def __contains__(self, key: bytes) -> bool:
        return self.find(key) is not None

    def find(self, key: bytes) -> Place | None:
        """The place of the last answer under the key."""
        if (added := self._added.get(key)) is not None:
            return added
        return self._find_old(key)

    def places(self) -> Iterator[Place]:
        """The places of what was there at first and was not replaced then, in their order in the files."""
        yield from (_unpacked(int(place)) for place in np.sort(self._places))

    def count_in(self, file: int) -> int:
        """How many of those places are in a file."""
        return int((self._places >> _OFFSET_BITS == file).sum())

    def add(self, key: bytes, place: Place) -> None:
        """From now on the answer under the key stands there."""
        if key not in self._added and self._find_old(key) is not None:
            self._replaced += 1
        self._added[key] = place

    def _find_old(self, key: bytes) -> Place | None:
        high, low = (np.uint64(int.from_bytes(half, "big")) for half in (key[:8], key[8:]))
        first, end = np.searchsorted(self._high, high, "left"), np.searchsorted(self._high, high, "right")
        found = first + np.searchsorted(self._low[first:end], low)
        if found == end or self._low[found] != low:
            return None
        return _unpacked(int(self._places[found]))


def _unpacked(place: int) -> Place:
    return Place(place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1))

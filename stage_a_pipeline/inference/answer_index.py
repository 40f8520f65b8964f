"""Where remembered answers stand, in 24 bytes each: a million of them must not fill a worker's memory."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

KEY_BYTES: Final = 16
_OFFSET_BITS: Final = 47
_FEW: Final = 1 << 16
"""So many added answers stand in a dict, which takes ten times the memory of arrays, or more of many."""


class Place(NamedTuple):
    """The number of a file, below 65,536, and the offset of a line in it."""

    file: int
    offset: int


def answer_key(content_sha256: str | bytes, fingerprint: str | bytes) -> bytes:
    """16 bytes that stand for a photo's content and what its answer depends on."""
    parts = (part if isinstance(part, bytes) else part.encode() for part in (content_sha256, fingerprint))
    return hashlib.blake2b(b":".join(parts), digest_size=KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class _Arrays:
    """Keys in two halves, sorted, each once, and their packed places.

    They are searched as memoryviews: numpy would give up the interpreter at every look, and get it back
    late from the threads that decode.
    """

    high: memoryview[int]
    low: memoryview[int]
    places: npt.NDArray[np.int64]

    @classmethod
    def sorted(cls, keys: bytes | bytearray, places: npt.NDArray[np.int64]) -> _Arrays:
        """The arrays of these keys; of equal ones, the last counts."""
        halves = np.frombuffer(keys, ">u8").reshape(-1, 2).astype(np.uint64)
        # The sort is stable: of equal keys, the last stays the last.
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        halves = halves[order]
        last = np.ones(len(order), bool)
        last[:-1] = (halves[1:] != halves[:-1]).any(axis=1)
        high, low = np.ascontiguousarray(halves[last].T)
        return cls(memoryview(high), memoryview(low), places[order[last]])

    def find(self, key: bytes) -> int | None:
        high, low = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        first = bisect_left(self.high, high)
        found = bisect_left(self.low, low, first, end := bisect_right(self.high, high, first))
        return int(self.places[found]) if found < end and self.low[found] == low else None

    def keys(self) -> bytes:
        """The keys as they were given to `sorted`."""
        return np.stack([self.high, self.low], axis=1).astype(">u8").tobytes()


class AnswerIndex:
    """From keys to places: sorted arrays, and a dict of what was added lately.

    Of several answers under one key, the last is found.
    Reading is safe from other threads than the one that adds.
    """

    def __init__(self, answers: Iterable[tuple[bytes, Place]] = ()) -> None:
        keys, places = bytearray(), array("q")
        for key, place in answers:
            keys += key
            places.append(_packed(place))
        self._arrays = _Arrays.sorted(keys, np.frombuffer(places, np.int64))
        self._added: dict[bytes, int] = {}
        self._replaced = 0

    def __len__(self) -> int:
        return len(self._arrays.places) + len(self._added) - self._replaced

    def __contains__(self, key: bytes) -> bool:
        return self.find(key) is not None

    def find(self, key: bytes) -> Place | None:
        """The place of the last answer under the key."""
        if (packed := self._added.get(key)) is None:
            packed = self._arrays.find(key)
        return None if packed is None else _unpacked(packed)

    def keys(self) -> bytes:
        """All keys, one behind the other, in no promised order."""
        self._settle()
        return self._arrays.keys()

    def places(self) -> Iterator[Place]:
        """The places of all answers, in their order in the files."""
        self._settle()
        yield from (_unpacked(int(place)) for place in np.sort(self._arrays.places))

    def count_in(self, file: int) -> int:
        """How many answers are in a file."""
        self._settle()
        return int((self._arrays.places >> _OFFSET_BITS == file).sum())

    def add(self, key: bytes, place: Place) -> None:
        """From now on the answer under the key stands there."""
        if key not in self._added and self._arrays.find(key) is not None:
            self._replaced += 1
        self._added[key] = _packed(place)
        # More at a time, the more there are: settling n answers then takes n log n in all.
        if len(self._added) >= max(_FEW, len(self._arrays.places) // 4):
            self._settle()

    def _settle(self) -> None:
        """Move what was added into the arrays."""
        keys = self._arrays.keys() + b"".join(self._added)
        places = np.concatenate([self._arrays.places, np.fromiter(self._added.values(), np.int64)])
        # In this order: another thread that misses a key in the dict finds it in the arrays.
        self._arrays = _Arrays.sorted(keys, places)
        self._added, self._replaced = {}, 0


def _packed(place: Place) -> int:
    return place.file << _OFFSET_BITS | place.offset


def _unpacked(packed: int) -> Place:
    return Place(packed >> _OFFSET_BITS, packed & ((1 << _OFFSET_BITS) - 1))

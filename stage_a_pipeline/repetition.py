"""Whether a text is one piece over and over, as a model writes that has lost its way."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_LONGEST_PIECE: Final = 512
_LEAST_LENGTH: Final = 64
_LEAST_REPEATS: Final = 32
"""A photo can show thirty objects of a kind, and a summary may list them one by one."""
_LONG_PIECE: Final = 40
_LEAST_LONG_REPEATS: Final = 8


def is_endless(text: str, *, closed: bool = False) -> bool:
    """Whether one piece of at most 512 characters, repeated back to back, makes up half the text or more.

    It takes 32 repeats; for pieces of 40 characters or more 8, unless the text is a `closed` list,
    which the model has ended by itself. Linear in the length of the text.
    """
    size = len(text)
    if size < _LEAST_LENGTH:
        return False
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    least = _LEAST_REPEATS if closed else _LEAST_LONG_REPEATS
    for piece in range(1, min(size // least, _LONGEST_PIECE) + 1):
        length = _longest_stretch(codes, piece)
        needed = least if piece >= _LONG_PIECE else _LEAST_REPEATS
        if length >= max(_LEAST_LENGTH, size / 2, needed * piece):
            return True
    return False


def repeats_to_the_end(text: str) -> bool:
    """Whether the text is half or more a piece over and over that goes on at its end: not a closed list.

    Such a text `is_endless`.
    """
    size = len(text)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    for piece in range(1, min(size // _LEAST_REPEATS, _LONGEST_PIECE) + 1):
        needed = max(_LEAST_LENGTH, -(-size // 2), _LEAST_REPEATS * piece)
        if needed <= size and np.array_equal(codes[size - needed + piece :], codes[size - needed : -piece]):
            return True
    return False


def _longest_stretch(codes: npt.NDArray[np.uint32], piece: int) -> int:
    """Characters of the longest stretch in which every character equals the one `piece` before it."""
    breaks = np.flatnonzero(codes[piece:] != codes[:-piece])
    edges = np.concatenate(([-1], breaks, [len(codes) - piece]))
    return int(np.diff(edges).max()) - 1 + piece

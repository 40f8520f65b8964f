"""A scan's test data: diffraction patterns, where they were taken, and the true object where it is known.

One `.npz` with `diffraction` (n, N, N), also under the name `diff3d`, `xcoords` and `ycoords` (n,), and
`objectGuess` (rows, columns). Only what is asked for is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.geometry import Positions, as_positions
from stage_a_pipeline.reassembly.npz_members import read_member
from stage_a_pipeline.reassembly.patch_arrays import finite
from stage_a_pipeline.reassembly.sources import ArrayStream, has_array, open_array

_DIFFRACTION: Final = ("diffraction", "diff3d")
_COORDINATES: Final = ("xcoords", "ycoords")
_OBJECT: Final = "objectGuess"


@dataclass(frozen=True, slots=True)
class Diffraction:
    """`count` diffraction patterns of `side` x `side` pixels in a file, to be read once."""

    stream: ArrayStream

    @property
    def count(self) -> int:
        """How many patterns there are."""
        return self.stream.shape[0]

    @property
    def side(self) -> int:
        """Rows, and columns, of a pattern."""
        return self.stream.shape[1]

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """All patterns in their order, (up to `size`, N, N) at a time. Raises ReassemblyError."""
        for rows in self.stream.rows(size):
            yield rows.astype(np.float32, copy=False)


@contextmanager
def open_diffraction(path: Path) -> Iterator[Diffraction]:
    """The test data's patterns. ReassemblyError names the file."""
    present = [name for name in _DIFFRACTION if has_array(path, name)]
    if not present:
        raise ReassemblyError(
            f"{path}: has no `diffraction`, nor `diff3d`, which a model needs to predict patches; save the "
            "patterns under that name"
        )
    with open_array(path, present[0]) as stream:
        if len(stream.shape) != 3 or stream.shape[1] != stream.shape[2] or 0 in stream.shape:
            raise ReassemblyError(f"{stream.name}: of shape {stream.shape}; patterns are (n, N, N)")
        if stream.dtype.kind not in "fiu":
            raise ReassemblyError(f"{stream.name}: of {stream.dtype}; patterns are real numbers")
        yield Diffraction(stream)


def read_positions(path: Path) -> Positions | None:
    """(n, 2) positions, x before y; None where the test data has none. ReassemblyError names the file."""
    present = [name for name in _COORDINATES if has_array(path, name)]
    if not present:
        return None
    if len(present) == 1:
        missing = next(name for name in _COORDINATES if name not in present)
        raise ReassemblyError(f"{path}: has `{present[0]}` and no `{missing}`; save both")
    x, y = (read_member(path, name).reshape(-1) for name in _COORDINATES)
    if len(x) != len(y):
        raise ReassemblyError(
            f"{path}: {len(x)} xcoords and {len(y)} ycoords; give one of each for every pattern"
        )
    return as_positions(np.stack([x, y], axis=1), source=f"{path} (xcoords, ycoords)")


def read_true_object(path: Path) -> NDArray[Any] | None:
    """The complex (rows, columns) object; None where there is none. ReassemblyError names the file."""
    if not has_array(path, _OBJECT):
        return None
    # Not by open_array: objects often come from programs that store their columns first.
    found = read_member(path, _OBJECT)
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.ndim != 2 or found.dtype.kind not in "cf" or not found.size:
        raise ReassemblyError(
            f"{path}: {_OBJECT} is {found.dtype} of shape {found.shape}; an object is a complex image, "
            "(rows, columns)"
        )
    if not finite(found).all():
        raise ReassemblyError(
            f"{path}: {_OBJECT} has values that are not finite; correct it, or leave it out"
        )
    return found.astype(np.result_type(found, np.complex64), copy=False)

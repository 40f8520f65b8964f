"""A reassembled object as a file, with what is needed to find it in the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.accumulator import Reassembly
from stage_a_pipeline.reassembly.geometry import Anchor
from stage_a_pipeline.reassembly.npz_members import read_member
from stage_a_pipeline.reassembly.sources import has_array
from stage_a_pipeline.storage import atomic_write

OBJECT: Final = "reconstructed_object"
_ANCHOR: Final = ("mean_xy", "pad", "crop_size")


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A complex (rows, columns) object; of other programs it comes without counts and without an anchor."""

    object: npt.NDArray[Any]
    count: npt.NDArray[np.float32] | None
    anchor: Anchor | None


def write_reconstruction(path: Path, reassembly: Reassembly) -> None:
    """Write `reconstructed_object`, `count`, `mean_xy`, `pad` and `crop_size`. Raises OutputError."""
    anchor = reassembly.anchor
    with atomic_write(path, "wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            reconstructed_object=reassembly.object,
            count=reassembly.count,
            mean_xy=np.array([anchor.mean_x, anchor.mean_y]),
            pad=np.array([anchor.pad]),
            crop_size=np.array([anchor.crop_size]),
        )


def read_reconstruction(path: Path) -> Reconstruction:
    """What such a file holds, or one with `reconstructed_object` alone. ReassemblyError names the file."""
    # Not as a stream: other programs may store an object's columns first.
    found = read_member(path, OBJECT)
    if found.ndim != 2 or found.dtype.kind != "c":
        raise ReassemblyError(
            f"{path}: {OBJECT} is {found.dtype} of shape {found.shape}; an object is a complex image, "
            "(rows, columns)"
        )
    count = read_member(path, "count") if has_array(path, "count") else None
    anchor = _read_anchor(path)
    if anchor is not None and found.shape != (side := anchor.crop_size + 2 * anchor.pad, side):
        raise ReassemblyError(
            f"{path}: {OBJECT} is of shape {found.shape}, where pad and crop_size are of one of {side} x "
            f"{side} pixels; write it again"
        )
    # Wider types than complex128 are no library's.
    wide = found.dtype.itemsize > np.dtype(np.complex128).itemsize
    return Reconstruction(found.astype(np.complex128) if wide else found, count, anchor)


def _read_anchor(path: Path) -> Anchor | None:
    if not all(has_array(path, name) for name in _ANCHOR):
        return None
    mean_xy, pad, crop_size = (read_member(path, name).reshape(-1) for name in _ANCHOR)
    if (len(mean_xy), len(pad), len(crop_size)) != (2, 1, 1):
        raise ReassemblyError(f"{path}: mean_xy, pad or crop_size is of another size; write it again")
    if mean_xy.dtype.kind not in "fiu" or not np.isfinite(mean_xy).all():
        raise ReassemblyError(f"{path}: mean_xy is no place in the world; write two finite numbers, x and y")
    if not all(size.dtype.kind in "iu" and size[0] >= 0 for size in (pad, crop_size)):
        raise ReassemblyError(f"{path}: pad or crop_size is no number of pixels; write it again")
    return Anchor(float(mean_xy[0]), float(mean_xy[1]), int(pad[0]), int(crop_size[0]))

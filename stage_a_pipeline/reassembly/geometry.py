"""Where each patch of a scan goes on the canvas, and where the canvas lies in the world.

Positions are (x, y) in pixels, x to the right and y down; arrays are indexed (row, column). The mean over
all positions is the canvas's centre, so that the geometry needs every position before the first patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.errors import ReassemblyError

Positions = npt.NDArray[np.float64]
SNAP: Final = 1e-5
"""Shifts so near to a whole number of pixels are whole: rounding would otherwise cost a row of the canvas."""

_FURTHEST: Final = 1 << 30
"""Pixels from the mean to a position; what a side of more has of pixels is no number of a computer's."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a canvas lies in the world.

    Its pixel (row, column) is at y = `top` + row and x = `left` + column.
    """

    mean_x: float
    mean_y: float
    pad: int
    crop_size: int

    @property
    def top(self) -> float:
        """y of the canvas's first row."""
        return self.mean_y - (self.pad + self.crop_size // 2)

    @property
    def left(self) -> float:
        """x of the canvas's first column."""
        return self.mean_x - (self.pad + self.crop_size // 2)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The geometry of one object: (B, 2) `offsets`, patches of N x N, of which M x M in the middle count.

    The canvas is square and `pad` pixels wider than a crop on each side.
    """

    offsets: Positions
    patch_size: int
    crop_size: int
    anchor: Anchor

    @property
    def count(self) -> int:
        """How many patches there are."""
        return len(self.offsets)

    @property
    def pad(self) -> int:
        """Pixels between the canvas's border and a crop that is not shifted."""
        return self.anchor.pad

    @property
    def side(self) -> int:
        """Rows and columns of the canvas."""
        return self.crop_size + 2 * self.pad

    @property
    def crop(self) -> slice:
        """Rows, or columns, of a patch that count."""
        first = self.patch_size // 2 - self.crop_size // 2
        return slice(first, first + self.crop_size)

    def most_on_a_pixel(self) -> int:
        """At least as many as patches lie on any pixel of the canvas, and at most about four times that.

        All on a pixel have their corners in a square of its size and theirs, which at most four cells of a
        grid of such squares meet.
        """
        cells = np.floor(_shifts(self.offsets, self.anchor.mean_x, self.anchor.mean_y) / (self.crop_size + 1))
        column, row = (cells - cells.min(axis=0)).astype(np.int64).T
        return 4 * int(np.unique(row * (column.max() + 1) + column, return_counts=True)[1].max())

    def placement(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], Positions]:
        """Where the crops of these patches go: whole pixels, and what is left over.

        Both (n, 2), in (row, column) order: the pixel of the canvas that holds a crop's first pixel, and
        the share, 0 to less than 1, of every pixel that goes to the next one.
        """
        shifts = _shifts(self.offsets[start:stop], self.anchor.mean_x, self.anchor.mean_y)
        corners = shifts[:, ::-1] + self.pad
        whole = np.floor(corners)
        return whole.astype(np.int64), corners - whole


def plan(offsets: npt.ArrayLike, *, patch_size: int, crop_size: int) -> Plan:
    """The geometry of patches at these positions.

    `offsets` are (x, y), (B, 2) or of a shape that flattens to it, such as (B, 1, 1, 2). Raises
    ReassemblyError, a ValueError, for positions that are none, and for a crop that no patch has.
    """
    positions = as_positions(offsets)
    if not 1 <= crop_size <= patch_size or crop_size != int(crop_size):
        raise ReassemblyError(
            f"crop_size: {crop_size} is none of 1 to {patch_size}, a patch's pixels a side; choose another"
        )
    # By columns: numpy adds up what lies side by side in pairs, and what does not one after another.
    mean_x, mean_y = (float(np.ascontiguousarray(axis).mean()) for axis in positions.T)
    furthest = float(np.abs(_shifts(positions, mean_x, mean_y)).max())
    if not furthest <= _FURTHEST:
        raise ReassemblyError(
            f"offsets: one lies {furthest:.3g} pixels from their mean, and no canvas reaches so far; give "
            "positions in pixels"
        )
    pad = math.ceil(furthest)
    return Plan(positions, patch_size, int(crop_size), Anchor(mean_x, mean_y, pad + pad % 2, int(crop_size)))


def as_positions(offsets: Any, *, source: str = "offsets") -> Positions:
    """(B, 2) positions in float64. ReassemblyError, beginning with `source`, where they are none."""
    try:
        # A tensor may lie on a GPU.
        values = np.asarray(offsets.detach().cpu() if hasattr(offsets, "detach") else offsets)
    except ValueError as error:
        raise ReassemblyError(f"{source}: no array ({error}); give one (x, y) per patch") from error
    if values.dtype.kind not in "fiu":
        raise ReassemblyError(
            f"{source}: positions are real numbers, and these are {values.dtype}; give (x, y) pairs"
        )
    if values.size == 0:
        raise ReassemblyError(f"{source}: empty; there is no position, and so nothing to reassemble")
    kept = tuple(size for size in values.shape if size != 1)
    if kept != (2,) and (len(kept) != 2 or kept[1] != 2):
        raise ReassemblyError(
            f"{source}: of shape {values.shape}, which does not flatten to (B, 2); give one (x, y) per patch"
        )
    positions = np.ascontiguousarray(values, np.float64).reshape(-1, 2)
    broken = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if broken.size:
        raise ReassemblyError(
            f"{source}: {broken.size} of {len(positions)} positions are not finite, the first that of patch "
            f"{broken[0]} (from 0); leave these patches out, or correct their positions"
        )
    return positions


def _shifts(positions: Positions, mean_x: float, mean_y: float) -> Positions:
    shifts: Positions = positions - np.array([mean_x, mean_y])
    nearest = np.rint(shifts)
    whole = np.abs(shifts - nearest) <= SNAP
    shifts[whole] = nearest[whole]
    return shifts

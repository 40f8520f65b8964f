"""What a written object is like: its size, how much of the scan has a patch on it, and a small picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.object_picture import object_png
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction
from stage_a_pipeline.reassembly.thumbnails import thumbnail_png

COVERED: Final = 0.01
"""Patches that a pixel has at least, where it counts as covered."""
_HALF: Final = 252
"""Pixels of amplitude and phase each; with the gap between them the picture has 512."""


@dataclass(frozen=True, slots=True)
class StitchedObject:
    """An object of `patches` patches that `path` holds, and what its file says.

    `side` is what the geometry of the patches asks for, of the object and of its counts. `coverage` is the
    share of the smallest box around all patches that has one, 0 where nothing has.
    """

    model: str
    path: Path
    patches: int
    seconds: float
    side: int
    object_shape: tuple[int, ...]
    count_shape: tuple[int, ...]
    finite: bool
    coverage: float
    picture: bytes


def look_at(written: Path, *, model: str, path: Path, patches: int, seconds: float) -> StitchedObject:
    """What `written` holds, which will lie at `path`. ReassemblyError names the file."""
    found = read_reconstruction(written)
    if found.count is None or found.anchor is None:
        raise ReassemblyError(f"{written}: has no counts or no place in the world; stitch it again")
    return StitchedObject(
        model=model,
        path=path,
        patches=patches,
        seconds=seconds,
        side=found.anchor.crop_size + 2 * found.anchor.pad,
        object_shape=found.object.shape,
        count_shape=found.count.shape,
        finite=bool(np.isfinite(found.object).all() and np.isfinite(found.count).all()),
        coverage=share_covered(found.count),
        picture=thumbnail_png(object_png(found.object, side=_HALF), width=2 * _HALF + 8),
    )


def share_covered(count: NDArray[Any]) -> float:
    """The share of the smallest box around all covered pixels that is covered."""
    covered = count > COVERED
    if not covered.any():
        return 0.0
    rows, columns = (np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    return float(covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean())

"""The baseline of the reassembly: every crop on a canvas of its own, which is translated as a whole.

The same formula, plainly: as much work per patch as the canvas has pixels, whatever the crop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.reassembly.geometry import Plan


def whole_canvas_object(geometry: Plan, patches: npt.NDArray[Any]) -> npt.NDArray[np.complex64]:
    """The object of (B, N, N) patches, in float64 throughout."""
    from scipy.ndimage import shift

    corners, shares = geometry.placement(0, geometry.count)
    sums = np.zeros((geometry.side, geometry.side), np.complex128)
    counts = np.zeros((geometry.side, geometry.side))
    placed = slice(geometry.pad, geometry.pad + geometry.crop_size)
    for patch, moved in zip(patches, corners + shares - geometry.pad, strict=True):
        canvas, ones = np.zeros_like(sums), np.zeros_like(counts)
        canvas[placed, placed] = patch[geometry.crop, geometry.crop]
        ones[placed, placed] = 1
        sums += shift(canvas, moved, order=1, mode="grid-constant", prefilter=False)
        counts += shift(ones, moved, order=1, mode="grid-constant", prefilter=False)
    return (sums / (1e-9 + counts)).astype(np.complex64)

"""The sub-pixel shift between a reconstruction and the truth, found and undone.

Guizar-Sicairos, Thurman and Fienup, Opt. Lett. 33 (2008) 156-158, as scikit-image computes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.cropping import trim
from stage_a_pipeline.reassembly.metrics import TRIMMED

_UPSAMPLING: Final = 50
"""Shifts are found in steps of 1/50 px."""
_CROPPED: Final = 2
"""Pixels that are cropped on each side: a Fourier shift wraps around."""
_LEAST_SIDE: Final = 2 * (_CROPPED + TRIMMED) + 1


class Offset(NamedTuple):
    """The shift in pixels that was applied to a reconstruction, down and right."""

    dy: float
    dx: float


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """A reconstruction on its truth's grid, both cropped alike."""

    reconstruction: NDArray[Any]
    truth: NDArray[Any]
    offset: Offset


def register(reconstruction: NDArray[Any], truth: NDArray[Any]) -> Registered:
    """Shift a complex reconstruction onto a truth of its shape, as their amplitudes tell.

    ReassemblyError where the images are too small, or tell of no shift.
    """
    if min(truth.shape) < _LEAST_SIDE:
        raise ReassemblyError(
            f"{truth.shape[0]}x{truth.shape[1]} pixels are too few; registration needs {_LEAST_SIDE} a side"
        )
    offset = _find_offset(reconstruction, truth)
    from scipy.ndimage import fourier_shift

    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(reconstruction), offset))
    return Registered(
        trim(moved.astype(reconstruction.dtype), _CROPPED), trim(truth, _CROPPED), Offset(*offset)
    )


def _find_offset(reconstruction: NDArray[Any], truth: NDArray[Any]) -> Offset:
    from skimage.registration import phase_cross_correlation

    amplitudes = [np.abs(image).astype(np.float32) for image in (truth, reconstruction)]
    for name, amplitude in zip(("truth", "reconstruction"), amplitudes, strict=True):
        if np.ptp(amplitude) == 0:
            raise ReassemblyError(f"the {name}'s amplitude is the same everywhere")
    try:
        found, _, _ = phase_cross_correlation(*amplitudes, upsample_factor=_UPSAMPLING)
    except (ValueError, ArithmeticError) as error:
        raise ReassemblyError(str(error)) from error
    offset = Offset(*map(float, found))
    if not np.isfinite(offset).all():
        raise ReassemblyError("no finite shift was found")
    return offset

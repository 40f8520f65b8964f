"""How near a reconstructed object is to the true one, in amplitude and in phase.

SSIM is Wang et al., IEEE Trans. Image Process. 13 (2004) 600-612, as scikit-image computes it; MS-SSIM its
product over scales (Wang, Simoncelli and Bovik, Asilomar 2003) with that paper's weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.cropping import trim
from stage_a_pipeline.reassembly.patch_arrays import finite
from stage_a_pipeline.reassembly.ring_correlation import crossing, ring_correlation

PhaseAlignment = Literal["plane", "mean"]
"""What is taken off each phase: phases are only known up to a constant, and often up to a ramp."""
PHASE_ALIGNMENTS: Final[tuple[PhaseAlignment, ...]] = get_args(PhaseAlignment)

TRIMMED: Final = 2
"""Pixels on each side that no metric sees."""

_PEAK: Final = 255.0
"""The peak of PSNR, whatever the images' range: it is what published figures were computed with."""
_SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW: Final = 7
"""The side of SSIM's window."""
_LEAST_SSIM: Final = 1e-4
"""What a negative SSIM counts in a product of powers."""

Image = NDArray[np.float64]


class Measured(NamedTuple):
    """One metric of both parts of an object."""

    amplitude: float
    phase: float


class Curves(NamedTuple):
    """The ring correlations of both parts, by frequency bin."""

    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """A prediction against the truth; NaN is what is not defined for the images.

    `psnr` in dB; `frc50` and `frc1over7` are where the ring correlation `frc` falls below 1/2 and 1/7, in
    bins.
    """

    mae: Measured
    mse: Measured
    psnr: Measured
    ssim: Measured
    ms_ssim: Measured
    frc50: Measured
    frc1over7: Measured
    frc: Curves


METRIC_NAMES: Final = ("mae", "mse", "psnr", "ssim", "ms_ssim", "frc50", "frc1over7")
"""The numbers of Metrics, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What metrics leave to choose; the sigmas are of Gaussians, in bins and in pixels, 0 for none."""

    phase_align_method: PhaseAlignment = "plane"
    frc_sigma: float = 0.0
    ms_ssim_sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.phase_align_method not in PHASE_ALIGNMENTS:
            raise ReassemblyError(
                f"phase_align_method is {self.phase_align_method!r}; choose one of "
                f"{', '.join(PHASE_ALIGNMENTS)}"
            )
        for name in ("frc_sigma", "ms_ssim_sigma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ReassemblyError(f"{name} is {getattr(self, name)}; give 0 or a positive number")


def compare_objects(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    *,
    phase_align_method: PhaseAlignment = "plane",
    frc_sigma: float = 0.0,
    ms_ssim_sigma: float = 1.0,
) -> Metrics:
    """All metrics of a complex 2-D prediction against a truth of its shape, in float64.

    Two pixels are trimmed on each side. The prediction's amplitude is scaled to the truth's mean first; a
    plane, or the mean, is taken off each phase. Raises ReassemblyError.
    """
    options = MetricOptions(phase_align_method, frc_sigma, ms_ssim_sigma)
    _check(prediction, truth)
    found, true = (trim(np.asarray(image, np.complex128), TRIMMED) for image in (prediction, truth))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _both(_amplitudes(found, true, options), _phases(found, true, options))


def remove_plane(image: Image) -> Image:
    """The image less its least-squares plane a*x + b*y + c."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in image.shape)
    # Centred coordinates of a full grid are orthogonal: each coefficient is a projection of its own.
    flat: Image = image - image.mean()
    down = rows @ flat.sum(axis=1) / max(1.0, np.square(rows).sum() * columns.size)
    right = columns @ flat.sum(axis=0) / max(1.0, np.square(columns).sum() * rows.size)
    plane: Image = down * rows[:, None] + right * columns[None, :]
    return flat - plane


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The metrics of amplitude or phase."""

    numbers: dict[str, float]
    curve: NDArray[np.float64]


def _both(amplitude: _Part, phase: _Part) -> Metrics:
    numbers = {name: Measured(amplitude.numbers[name], phase.numbers[name]) for name in METRIC_NAMES}
    return Metrics(**numbers, frc=Curves(amplitude.curve, phase.curve))


def _amplitudes(prediction: NDArray[Any], truth: NDArray[Any], options: MetricOptions) -> _Part:
    true = np.abs(truth)
    found = np.abs(prediction)
    found = found * (true.mean() / found.mean())
    smooth = [_smoothed(image, options.ms_ssim_sigma) for image in (found, true)]
    similar = {"ssim": _ssim(found, true, float(np.ptp(true))), "ms_ssim": _ms_ssim(*smooth)}
    return _part(found, true, similar, options)


def _phases(prediction: NDArray[Any], truth: NDArray[Any], options: MetricOptions) -> _Part:
    found, true = (_aligned_phase(image, options.phase_align_method) for image in (prediction, truth))
    mapped = [(phase + np.pi) / (2 * np.pi) for phase in (found, true)]
    similar = {"ssim": _ssim(mapped[0], mapped[1], 1.0), "ms_ssim": _ms_ssim(*mapped)}
    return _part(found, true, similar, options)


def _aligned_phase(image: NDArray[Any], method: PhaseAlignment) -> Image:
    phase = np.angle(image)
    return remove_plane(phase) if method == "plane" else phase - phase.mean()


def _part(found: Image, true: Image, similar: dict[str, float], options: MetricOptions) -> _Part:
    error = found - true
    mse = float(np.mean(np.square(error)))
    curve = ring_correlation(found, true, sigma=options.frc_sigma)
    numbers = {
        "mae": float(np.mean(np.abs(error))),
        "mse": mse,
        "psnr": float(20 * np.log10(_PEAK / (np.sqrt(mse) + np.finfo(float).eps))),
        **similar,
        "frc50": crossing(curve, 1 / 2),
        "frc1over7": crossing(curve, 1 / 7),
    }
    return _Part(numbers, curve)


def _smoothed(image: Image, sigma: float) -> Image:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, sigma), np.float64) if sigma > 0 else image


def _ssim(found: Image, true: Image, data_range: float) -> float:
    """NaN where an image is smaller than the window, or has no range."""
    if min(found.shape) < _WINDOW:
        return float("nan")
    from skimage.metrics import structural_similarity

    return float(structural_similarity(found, true, data_range=data_range))


def _ms_ssim(found: Image, true: Image) -> float:
    data_range = float(max(np.ptp(found), np.ptp(true)))
    product = 1.0
    for level, weight in enumerate(_SCALE_WEIGHTS):
        if level and min(found.shape) < _WINDOW:
            break
        similarity = _ssim(found, true, data_range)
        product *= (_LEAST_SSIM if similarity < 0 else similarity) ** weight
        found, true = found[::2, ::2], true[::2, ::2]
    return product


def _check(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    for name, image in (("prediction", prediction), ("truth", truth)):
        if image.ndim != 2:
            raise ReassemblyError(f"{name} has the shape {image.shape}; give an image of rows and columns")
        if not finite(image).all():
            raise ReassemblyError(f"{name} has values that are not finite; no metric is defined for them")
    if prediction.shape != truth.shape:
        raise ReassemblyError(
            f"prediction has the shape {prediction.shape} and truth {truth.shape}; crop them to one first"
        )
    if min(prediction.shape) <= 2 * TRIMMED:
        raise ReassemblyError(
            f"images of {prediction.shape[0]}x{prediction.shape[1]} pixels are too small: {TRIMMED} are "
            f"trimmed on each side; give at least {2 * TRIMMED + 1}x{2 * TRIMMED + 1}"
        )

"""Reconstructions and the true object side by side, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.reassembly.comparison import ComparedArm, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DRAWN_PIXELS: Final = 2000
"""Sides of larger images are thinned out to so many: no panel has room for more."""
_PANEL_INCHES: Final = (4.4, 4.0)
_DOTS_PER_INCH: Final = 130
_OUTLIERS: Final = (2, 98)
"""Percentiles that a colour bar spans: a few pixels at the border would take all contrast from the rest."""


class _Column(NamedTuple):
    """One object, its title, and what is said below its phase and its amplitude."""

    title: str
    image: NDArray[Any]
    below_phase: str
    below_amplitude: str


def draw_comparison(file: BinaryIO, comparison: Comparison) -> None:
    """Draw a PNG: phases in the top row, amplitudes below, a column per arm and one of the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [_arm_column(arm) for arm in comparison.arms]
    first = comparison.arms[0].aligned
    if first is not None:
        columns.append(_Column("Ground truth", first.truth, "", ""))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(columns), height * 2), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(columns), squeeze=False)
    for column, (phase, amplitude) in zip(columns, panels.T, strict=True):
        image = _thinned(column.image)
        _draw(phase, np.angle(image), "phase (rad)", column.below_phase, colours="viridis")
        _draw(amplitude, np.abs(image), "amplitude", column.below_amplitude, colours="gray")
        phase.set_title(column.title, fontsize=12)
    # No version of the library: the same comparison is the same file.
    figure.savefig(file, format="png", metadata={"Software": None})


def _arm_column(arm: ComparedArm) -> _Column:
    if arm.aligned is None:
        return _Column(arm.name, arm.arm.object, "", "")
    title = arm.name
    if arm.offset is not None:
        title += f"\nshifted by dy {arm.offset.dy:+.2f}, dx {arm.offset.dx:+.2f} px"
    return _Column(title, arm.aligned.reconstruction, _told(arm, "phase"), _told(arm, "amplitude"))


def _told(arm: ComparedArm, part: str) -> str:
    if arm.metrics is None:
        return ""
    numbers = {
        "MAE": getattr(arm.metrics.mae, part),
        "SSIM": getattr(arm.metrics.ssim, part),
        "FRC50": getattr(arm.metrics.frc50, part),
    }
    return "   ".join(f"{name} {number:.3g}" for name, number in numbers.items() if np.isfinite(number))


def _thinned(image: NDArray[Any]) -> NDArray[Any]:
    step = -(-max(image.shape) // _DRAWN_PIXELS)
    return image[::step, ::step]


def _draw(panel: Axes, image: NDArray[Any], name: str, below: str, *, colours: str) -> None:
    low, high = np.percentile(image, _OUTLIERS)
    shown = panel.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    bar = panel.figure.colorbar(shown, ax=panel, fraction=0.046, pad=0.03, extend="both")
    bar.set_label(name, fontsize=10)
    bar.ax.tick_params(labelsize=8)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(below, fontsize=10)

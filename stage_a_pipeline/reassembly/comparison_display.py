"""A comparison as a table for terminals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from stage_a_pipeline.reassembly.comparison import Comparison
from stage_a_pipeline.reassembly.metrics import METRIC_NAMES

_NAMES: Final = {
    "mae": "MAE",
    "mse": "MSE",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "frc50": "FRC 1/2 (bins)",
    "frc1over7": "FRC 1/7 (bins)",
}
_ERRORS: Final = ("mae", "mse")
"""The less the better; of all others, the more."""


def metrics_table(comparison: Comparison) -> Table | None:
    """A column per arm, a row per metric and part, the best of each marked; None without metrics."""
    measured = [arm for arm in comparison.arms if arm.metrics is not None]
    if not measured:
        return None
    table = Table(caption="* the best of its row", caption_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for arm in measured:
        table.add_column(arm.name, justify="right", no_wrap=True)
    for name in METRIC_NAMES:
        for part in ("amplitude", "phase"):
            numbers = [getattr(getattr(arm.metrics, name), part) for arm in measured]
            table.add_row(_NAMES[name], part, *_cells(name, numbers), end_section=part == "phase")
    return table


def arm_sentences(comparison: Comparison) -> list[str]:
    """What registration did, and how long each arm took, a sentence per arm that tells either."""
    sentences = []
    for arm in comparison.arms:
        told = []
        if arm.offset is not None:
            told.append(f"shifted by dy {arm.offset.dy:+.2f}, dx {arm.offset.dx:+.2f} px")
        if arm.arm.seconds is not None:
            told.append(f"{arm.arm.seconds:.1f} s")
        if told:
            sentences.append(f"{arm.name}: {', '.join(told)}")
    return sentences


def _cells(name: str, numbers: Sequence[float]) -> list[Text]:
    known = [number for number in numbers if not math.isnan(number)]
    best = (min if name in _ERRORS else max)(known, default=math.nan)
    tied = len(set(known)) < 2
    return [_cell(number, best=number == best and not tied) for number in numbers]


def _cell(number: float, *, best: bool) -> Text:
    told = "-" if math.isnan(number) else f"{number:.4g}"
    return Text(f"{told} *", style="bold green") if best else Text(f"{told}  ")

"""Shares, intervals and differences as people read them."""

from __future__ import annotations

from stage_a_pipeline.stage_b.bootstrap import Estimate

NOTHING = "–"
"""For a share of nothing."""


def percent(share: Estimate | None) -> str:
    """`62.5%`"""
    return NOTHING if share is None else f"{share.value:.1%}"


def percent_with_interval(share: Estimate | None) -> str:
    """`62.5% (50.1 to 73.2)`"""
    if share is None:
        return NOTHING
    return f"{share.value:.1%} ({_hundredths(share.low)} to {_hundredths(share.high)})"


def points(difference: Estimate | None) -> str:
    """`+12.5 (-3.1 to +20.8)`, in percentage points."""
    if difference is None:
        return NOTHING
    value, low, high = (_hundredths(part, sign="+") for part in _parts(difference))
    return f"{value} ({low} to {high})"


def counted(count: int, noun: str) -> str:
    """`1 ticket`, `2 tickets`"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _parts(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _hundredths(value: float, sign: str = "") -> str:
    # Adding zero turns what was rounded to -0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"

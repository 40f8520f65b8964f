"""A picture of a few amounts: one bar each, with its name before it and its figure behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.svg import (
    EMPTY,
    INK,
    QUIET,
    RIGHT,
    WRONG,
    document,
    group,
    label,
    rectangle,
    shade,
    shortened,
    with_hint,
)

_WIDTH: Final = 760
_MARGIN: Final = 20
_NAMES: Final = 210
_FIGURES: Final = 150
_ROW: Final = 30
_TOP: Final = 62


@dataclass(frozen=True, slots=True)
class Bar:
    """An amount, and how its figure is written; one that should not be there is drawn in another hue."""

    name: str
    amount: float
    figure: str
    is_bad: bool = False


def draw_bars(title: str, bars: Sequence[Bar]) -> str:
    """The bars as an SVG document, the longest as wide as there is room for."""
    longest = max((bar.amount for bar in bars), default=0) or 1
    drawn = [
        group(_MARGIN, _TOP + place * _ROW, bar.name, _row(bar, longest)) for place, bar in enumerate(bars)
    ]
    heading = label(_MARGIN, 36, shortened(title, _WIDTH - 2 * _MARGIN, 17), size=17, weight="bold")
    return document(_WIDTH, _TOP + len(bars) * _ROW + _MARGIN, [heading, *drawn])


def _row(bar: Bar, longest: float) -> Iterator[str]:
    room = _WIDTH - 2 * _MARGIN - _NAMES - _FIGURES
    width = room * bar.amount / longest
    colour = shade(WRONG if bar.is_bad else RIGHT, 0.7)
    yield with_hint(label(0, 15, shortened(bar.name, _NAMES - 12), fill=INK), bar.name)
    yield rectangle(_NAMES, 2, room, 18, EMPTY, radius=3)
    if bar.amount:
        yield with_hint(rectangle(_NAMES, 2, max(2.0, width), 18, colour, radius=3), bar.figure)
    yield label(_NAMES + room + 10, 15, bar.figure, fill=INK if bar.amount else QUIET)

"""The picture of accuracies: a dot and its 95% interval before and after training, total and per mission."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from stage_a_pipeline.stage_b.axes import round_ticks
from stage_a_pipeline.stage_b.bootstrap import Estimate
from stage_a_pipeline.stage_b.scores import Compared, Comparison
from stage_a_pipeline.stage_b.wording import counted, percent, percent_with_interval, points
from stage_a_pipeline.svg import (
    INK,
    LINE,
    QUIET,
    WIDTH,
    document,
    dot,
    label,
    line,
    rectangle,
    shortened,
    text_width,
    with_hint,
)

_MARGIN: Final = 20
_LEFT, _RIGHT = 284, 752
"""The ends of the axis."""
_SHARES, _DIFFERENCE = 800, 1080
"""Where the figures beside it begin, and end."""
_TOP: Final = 116
_ROW: Final = 46
_BEFORE, _AFTER = "#8794a1", "#0b5cad"
_NAMES: Final = _LEFT - _MARGIN - 24
_TICKS: Final = 10

_Row = tuple[str, Compared]
"""A name, and what is drawn beside it."""


def accuracy_picture(comparison: Comparison) -> str:
    """The accuracies as an SVG document: the total, then missions, the weakest after training first."""
    heading = [label(_MARGIN, 36, "Accuracy of verdicts on held-out tickets", size=20, weight="bold")]
    if not comparison.total.after.tickets:
        nothing = label(WIDTH / 2, 110, "no ticket was held out", size=14, fill=QUIET, anchor="middle")
        return document(WIDTH, 180, [*heading, nothing])
    rows = [("total", comparison.total), *_weakest_first(comparison.per_mission)]
    low = _axis_start(rows)
    bottom = _TOP + len(rows) * _ROW
    elements = [*heading, *_legend(), *_axis(low, bottom)]
    for number, (name, compared) in enumerate(rows):
        elements += _row(name, compared, _TOP + number * _ROW, low, is_total=number == 0)
    elements.append(line((_MARGIN, _TOP + _ROW), (_DIFFERENCE, _TOP + _ROW), QUIET))
    return document(WIDTH, bottom + 32, elements)


def _weakest_first(missions: Mapping[str, Compared]) -> list[_Row]:
    return sorted(missions.items(), key=lambda row: (_accuracies(row[1])[1].value, row[0]))


def _accuracies(compared: Compared) -> tuple[Estimate, Estimate]:
    before, after = compared.before.shares.accuracy, compared.after.shares.accuracy
    assert before is not None, "a mission without tickets"
    assert after is not None, "a mission without tickets"
    return before, after


def _axis_start(rows: Sequence[_Row]) -> float:
    """The last tenth below everything that is drawn: high accuracies would be crowded on a whole axis."""
    lowest = min(share.low for _, compared in rows for share in _accuracies(compared))
    return max(0.0, math.floor(lowest * 10 - 0.5) / 10)


def _legend() -> Iterator[str]:
    x: float = _MARGIN
    for text, colour in (("before training", _BEFORE), ("after training", _AFTER)):
        yield rectangle(x, 60, 26, 3, colour)
        yield dot(x + 13, 61.5, 5, colour)
        yield label(x + 34, 66, text)
        x += 34 + text_width(text) + 24
    hint = "Bars are 95% intervals, by resampling groups. Missions, the weakest after training first."
    yield label(x, 66, hint, fill=QUIET)


def _axis(low: float, bottom: float) -> Iterator[str]:
    for tick in round_ticks(low, 1.0, _TICKS):
        x = _x(tick, low)
        yield line((x, _TOP), (x, bottom), LINE)
        for y in (_TOP - 8, bottom + 18):
            yield label(x, y, f"{tick:.0%}", fill=QUIET, anchor="middle")
    yield label(_SHARES, _TOP - 8, "before → after", fill=QUIET)
    yield label(_DIFFERENCE, _TOP - 8, "difference in points (95%)", fill=QUIET, anchor="end")


def _row(name: str, compared: Compared, top: float, low: float, *, is_total: bool) -> Iterator[str]:
    weight = "bold" if is_total else "normal"
    middle = top + _ROW / 2
    counts = f"{counted(compared.after.tickets, 'ticket')}, {counted(compared.after.groups, 'group')}"
    yield with_hint(label(_MARGIN, middle - 2, shortened(name, _NAMES, 13), size=13, weight=weight), name)
    yield label(_MARGIN, middle + 14, counts, size=11, fill=QUIET)
    before, after = _accuracies(compared)
    for share, y, colour, side in (
        (before, middle - 8, _BEFORE, "before"),
        (after, middle + 8, _AFTER, "after"),
    ):
        bar = rectangle(_x(share.low, low), y - 1.5, _x(share.high, low) - _x(share.low, low), 3, colour)
        point = dot(_x(share.value, low), y, 5, colour)
        yield with_hint(bar + point, f"{name} {side}: {percent_with_interval(share)}")
    yield label(
        _SHARES, middle + 4, f"{percent(before)} → {percent(after)}", size=13, fill=INK, weight=weight
    )
    yield label(_DIFFERENCE, middle + 4, points(compared.difference.accuracy), anchor="end", weight=weight)


def _x(share: float, low: float) -> float:
    return _LEFT + (share - low) / (1 - low) * (_RIGHT - _LEFT)

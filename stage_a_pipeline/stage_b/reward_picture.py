"""The picture of a training: rewards over its steps, faint as they were, strong as a running mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from stage_a_pipeline.stage_b.axes import round_step, round_ticks, written
from stage_a_pipeline.stage_b.metrics_file import StepMetrics
from stage_a_pipeline.stage_b.wording import counted
from stage_a_pipeline.svg import (
    INK,
    LINE,
    QUIET,
    WIDTH,
    curve,
    document,
    dot,
    label,
    line,
    rectangle,
    shortened,
    text_width,
    with_hint,
)

_HEIGHT: Final = 540
_MARGIN: Final = 20
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 1072, 104, 484
_TOTAL: Final = "total"
_COLOURS: Final = ("#0b5cad", "#c2570c", "#2e7d4f", "#8e44ad", "#00838f")
_MOST_POINTS: Final = 600
"""More would not be told apart at this width, and make the document large."""
_SMOOTHED: Final = 40
"""The running mean reaches over one point in so many to each side."""
_X_TICKS, _Y_TICKS = 12, 7
_LONGEST_NAME: Final = 180

_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Line:
    """One reward over the steps, and its running mean."""

    name: str
    colour: str
    raw: Sequence[_Point]
    smooth: Sequence[_Point]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The ranges of both axes, and where they lie in the picture."""

    low: _Point
    high: _Point

    def place(self, point: _Point) -> _Point:
        return (
            _between(point[0], self.low[0], self.high[0], _LEFT, _RIGHT),
            _between(point[1], self.low[1], self.high[1], _BOTTOM, _TOP),
        )


def reward_picture(metrics: Sequence[StepMetrics]) -> str:
    """The rewards of a training's steps as an SVG document; one that says so where there are none."""
    heading = [label(_MARGIN, 36, "Rewards over the training's steps", size=20, weight="bold")]
    if not metrics:
        nothing = label(WIDTH / 2, 110, "no step has been finished yet", size=14, fill=QUIET, anchor="middle")
        return document(WIDTH, 180, [*heading, nothing])
    lines = _lines(metrics)
    frame = _frame(lines)
    heading.append(label(_MARGIN, 57, _caption(metrics), fill=QUIET))
    drawn = [element for one in lines for element in _draw(one, frame)]
    return document(WIDTH, _HEIGHT, [*heading, *_legend(lines), *_axes(frame), *drawn])


def _caption(metrics: Sequence[StepMetrics]) -> str:
    per_point = _per_point(len(metrics))
    half = -(-len(metrics) // per_point) // _SMOOTHED
    steps = f"{counted(len(metrics), 'step')}, the last is {metrics[-1].step:,}."
    if not half:
        return steps
    faint = "each step" if per_point == 1 else f"means of {per_point} steps"
    return f"{steps} Faint: {faint}; strong: running mean over {(2 * half + 1) * per_point} steps."


def _lines(metrics: Sequence[StepMetrics]) -> list[_Line]:
    """The components in the order of their first steps, then the total, which is drawn above them."""
    names = list(dict.fromkeys(name for step in metrics for name in step.components))
    lines = []
    for number, name in enumerate(names):
        points = [(step.step, step.components[name]) for step in metrics if name in step.components]
        lines.append(_line(name, _COLOURS[number % len(_COLOURS)], points, _per_point(len(metrics))))
    total = [(step.step, step.reward) for step in metrics]
    return [*lines, _line(_TOTAL, INK, total, _per_point(len(metrics)))]


def _per_point(steps: int) -> int:
    return -(-steps // _MOST_POINTS)


def _line(name: str, colour: str, points: Sequence[_Point], per_point: int) -> _Line:
    raw = [_mean(points[first : first + per_point]) for first in range(0, len(points), per_point)]
    return _Line(name, colour, raw, _running_mean(raw, len(raw) // _SMOOTHED))


def _mean(points: Sequence[_Point]) -> _Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _running_mean(points: Sequence[_Point], half: int) -> list[_Point]:
    """The mean of each point and `half` on either side, of fewer at the ends."""
    sums = list(accumulate((y for _, y in points), initial=0.0))
    smooth = []
    for place, (x, _) in enumerate(points):
        first, end = max(0, place - half), min(len(points), place + half + 1)
        smooth.append((x, (sums[end] - sums[first]) / (end - first)))
    return smooth


def _frame(lines: Sequence[_Line]) -> _Frame:
    """All of the lines, from a reward of 0 or less to one of 1 or more, both round."""
    points = [point for one in lines for point in one.raw]
    steps, rewards = [x for x, _ in points], [y for _, y in points]
    low, high = min(0.0, *rewards), max(1.0, *rewards)
    step = round_step(high - low, _Y_TICKS)
    low, high = -step * _ceiling(-low / step), step * _ceiling(high / step)
    return _Frame((min(steps), low), (max(steps), high))


def _ceiling(number: float) -> int:
    return -int(-(number - 1e-9) // 1)


def _axes(frame: _Frame) -> Iterator[str]:
    ticks = round_ticks(frame.low[1], frame.high[1], _Y_TICKS)
    for tick, text in zip(ticks, written(ticks), strict=True):
        _, y = frame.place((frame.low[0], tick))
        yield line((_LEFT, y), (_RIGHT, y), LINE)
        yield label(_LEFT - 10, y + 4, text, fill=QUIET, anchor="end")
    steps = [tick for tick in round_ticks(frame.low[0], frame.high[0], _X_TICKS) if tick == int(tick)]
    for tick, text in zip(steps, written(steps), strict=True):
        x, _ = frame.place((tick, frame.low[1]))
        yield line((x, _BOTTOM), (x, _BOTTOM + 5), QUIET)
        yield label(x, _BOTTOM + 20, text, fill=QUIET, anchor="middle")
    yield label((_LEFT + _RIGHT) / 2, _BOTTOM + 42, "step", fill=QUIET, anchor="middle")


def _legend(lines: Sequence[_Line]) -> Iterator[str]:
    x: float = _MARGIN
    for one in lines:
        name = shortened(one.name, _LONGEST_NAME)
        first, last = one.smooth[0][1], one.smooth[-1][1]
        text = f"{name} {first:.2f} → {last:.2f}" if len(one.smooth) > 1 else f"{name} {last:.2f}"
        yield rectangle(x, 75, 18, 5, one.colour, radius=2)
        yield with_hint(label(x + 25, 82, text, weight=_weight(one)), one.name)
        x += 25 + text_width(text) + 24


def _draw(one: _Line, frame: _Frame) -> Iterator[str]:
    raw, smooth = ([frame.place(point) for point in points] for points in (one.raw, one.smooth))
    if len(raw) == 1:
        yield with_hint(dot(*raw[0], 4.5, one.colour), one.name)
        return
    if raw != smooth:
        yield curve(raw, one.colour, opacity=0.28)
    yield with_hint(curve(smooth, one.colour, width=3 if one.name == _TOTAL else 2), one.name)


def _weight(one: _Line) -> str:
    return "bold" if one.name == _TOTAL else "normal"


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    """Where a value lies between two ends; a range of one value is its own middle."""
    return (start + end) / 2 if low == high else start + (value - low) / (high - low) * (end - start)

"""The picture of what was said of tickets: true labels down, verdicts across, before and after training.

Right verdicts are blue, wrong and unreadable ones orange, the darker the larger their share of the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.stage_b.answer import VERDICT_WORDS
from stage_a_pipeline.stage_b.scores import SAID, Compared, Said, Scores
from stage_a_pipeline.stage_b.wording import counted, percent_with_interval
from stage_a_pipeline.svg import (
    EMPTY,
    INK,
    LINE,
    QUIET,
    RIGHT,
    WIDTH,
    WRONG,
    document,
    group,
    label,
    rectangle,
    shade,
    shortened,
    text_width,
    with_hint,
)

_MARGIN, _GAP, _PAD = 20, 16, 16
_TOP: Final = 96
_PANEL: Final = (WIDTH - 2 * _MARGIN - _GAP) / 2
_ROWS: Final = 112
"""Width of a row's label."""
_CELL: Final = ((_PANEL - 2 * _PAD - _ROWS) / len(SAID), 74)
_HEAD: Final = 122
_HEIGHT: Final = _HEAD + len(LABELS) * _CELL[1] + _PAD
_COLUMNS: Final[Mapping[Said, str]] = {
    "pass": VERDICT_WORDS["pass"],
    "fail": VERDICT_WORDS["fail"],
    "unreadable": "unreadable",
}


def confusion_picture(compared: Compared, *, title: str) -> str:
    """The confusions before and after side by side as an SVG document. `title` says what was judged."""
    return document(
        WIDTH,
        _TOP + _HEIGHT + _MARGIN,
        [
            label(_MARGIN, 40, shortened(title, WIDTH - 2 * _MARGIN, 20), size=20, weight="bold"),
            *_legend(compared.after, 62),
            _panel("before training", compared.before, _MARGIN),
            _panel("after training", compared.after, _MARGIN + _PANEL + _GAP),
        ],
    )


def _legend(scores: Scores, y: float) -> Iterator[str]:
    x: float = _MARGIN
    for text, ends in (("right", RIGHT), ("wrong or unreadable", WRONG)):
        for step in range(6):
            yield rectangle(x + step * 16, y, 16, 12, shade(ends, step / 5))
        yield label(x + 104, y + 10.5, text, fill=QUIET)
        x += 104 + text_width(text) + 26
    counts = f"{counted(scores.tickets, 'ticket')} of {counted(scores.groups, 'group')}"
    yield label(x, y + 10.5, f"{counts}; shares are of their row, intervals 95%.", fill=QUIET)


def _panel(name: str, scores: Scores, x: float) -> str:
    shares = scores.shares
    first = f"accuracy {percent_with_interval(shares.accuracy)}"
    second = f"false pass {percent_with_interval(shares.false_pass)}"
    third = f"false fail {percent_with_interval(shares.false_fail)}"
    elements = [
        rectangle(0.5, 0.5, _PANEL - 1, _HEIGHT - 1, "#ffffff", stroke=LINE, radius=8),
        label(_PAD, 28, name, size=15, weight="bold"),
        label(_PAD, 50, f"{first}  ·  format {percent_with_interval(shares.format)}"),
        label(_PAD, 70, f"{second}  ·  {third}"),
        *_column_labels(),
    ]
    for number, true in enumerate(LABELS):
        elements += _row(true, scores.confusion[true], _HEAD + number * _CELL[1])
    return group(x, _TOP, name, elements)


def _column_labels() -> Iterator[str]:
    for number, said in enumerate(SAID):
        x = _PAD + _ROWS + (number + 0.5) * _CELL[0]
        yield label(x, _HEAD - 10, _COLUMNS[said], size=13, fill=QUIET, anchor="middle")
    yield label(_PAD + _ROWS - 12, _HEAD - 10, "label ↓  said →", fill=QUIET, anchor="end")


def _row(true: Label, counts: Mapping[Said, int], top: float) -> Iterator[str]:
    total = sum(counts.values())
    middle = top + _CELL[1] / 2
    yield label(_PAD + _ROWS - 12, middle - 2, VERDICT_WORDS[true], size=14, anchor="end")
    yield label(_PAD + _ROWS - 12, middle + 16, counted(total, "ticket"), fill=QUIET, anchor="end")
    for number, said in enumerate(SAID):
        corner = (_PAD + _ROWS + number * _CELL[0], top)
        yield with_hint(
            _cell(counts[said], total, corner, right=said == true),
            f"{VERDICT_WORDS[true]} said to be {_COLUMNS[said]}: {counts[said]} of {total}",
        )


def _cell(count: int, total: int, corner: tuple[float, float], *, right: bool) -> str:
    (x, y), (width, height) = corner, _CELL
    share = count / total if total else 0.0
    fill = shade(RIGHT if right else WRONG, share) if count else EMPTY
    ink = "#ffffff" if share > 0.6 else INK if count else QUIET
    centre = x + width / 2
    box = rectangle(x + 2, y + 2, width - 4, height - 4, fill, radius=4)
    if not total:
        return box + label(centre, y + height / 2 + 4, "–", fill=QUIET, anchor="middle")
    return (
        box
        + label(centre, y + height / 2 + 2, f"{count:,}", size=20, fill=ink, anchor="middle")
        + label(centre, y + height / 2 + 21, f"{share:.1%}", fill=ink, anchor="middle")
    )

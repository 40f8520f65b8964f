"""The picture of an evaluation: one heat map per attribute, true values down, said ones across.

Right answers are blue on the diagonal, wrong ones orange beside it, the darker the larger their share of
the row: hue and place both tell them apart, and so does lightness, for those who cannot see the hue.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.evaluation.confusion import CATEGORIES, Cell, Confusion
from stage_a_pipeline.evaluation.scores import Scores
from stage_a_pipeline.summary_content import category_order, is_free, value_order
from stage_a_pipeline.svg import (
    EMPTY,
    INK,
    LINE,
    QUIET,
    RIGHT,
    WIDTH,
    WRONG,
    Ends,
    document,
    group,
    label,
    rectangle,
    shade,
    shortened,
    text_width,
    with_hint,
)

MISSING: Final = "missing"
INVENTED: Final = "invented"
_MARGIN: Final = 20
_GAP: Final = 16
_PAD: Final = 12
_COLUMNS: Final = 4
_COLUMN: Final = (WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) / _COLUMNS
_CELL: Final = (40, 26)
_TOP: Final = 122
_HEAD: Final = 52
"""Height of a panel's title and its figures."""
_LONGEST_LABEL: Final = 132
_MOST_VALUES: Final = 10
"""Free texts and numbers of more different values than these are listed rather than mapped."""
_MOST_COLUMNS: Final = 19
"""So many fit the picture. Names in the vocabulary are fewer; a bad checkpoint invents any number."""
_LISTED: Final = 10
_BAR: Final = 150


@dataclass(frozen=True, slots=True)
class _Panel:
    """Something drawn, to be put in its place."""

    name: str
    width: float
    height: float
    elements: tuple[str, ...]


def draw_evaluation(confusions: Sequence[Confusion], scores: Scores, *, title: str) -> str:
    """The confusions as an SVG document. `title` says what was evaluated."""
    placed = list(_place([_panel(confusion) for confusion in confusions], top=_TOP))
    bottom = max((y + panel.height for _, y, panel in placed), default=_TOP)
    drawn = (group(x, y, panel.name, panel.elements) for x, y, panel in placed)
    return document(WIDTH, bottom + _MARGIN, [*_heading(title, scores), *drawn])


def _heading(title: str, scores: Scores) -> Iterator[str]:
    yield label(_MARGIN, 42, shortened(title, WIDTH - 2 * _MARGIN, 22), size=22, weight="bold")
    figures = (
        f"{scores.photos} photos   exact {_percent(scores.exact_match)}   valid {_percent(scores.valid)}   "
        f"attributes {_percent(scores.attribute_recall)} recall, "
        f"{_percent(scores.attribute_precision)} precision   "
        f"irrelevant photos {_percent(scores.irrelevant_recall)} recall, "
        f"{_percent(scores.irrelevant_precision)} precision"
    )
    yield label(_MARGIN, 69, figures.replace("   ", "  ·  "), size=14)
    yield from _legend(88)


def _legend(y: float) -> Iterator[str]:
    x: float = _MARGIN
    for text, ends in (("said as it is", RIGHT), ("said otherwise", WRONG)):
        for step in range(6):
            yield rectangle(x + step * 16, y, 16, 12, shade(ends, step / 5))
        yield label(x + 104, y + 10.5, text, fill=QUIET)
        x += 104 + text_width(text) + 26
    hint = "Rows are true, columns were said; numbers are counts, colours their share of the row."
    yield label(x, y + 10.5, hint, fill=QUIET)


def _place(panels: Iterable[_Panel], *, top: float) -> Iterator[tuple[float, float, _Panel]]:
    """Panels over as many columns as they need, each where the columns below it end first."""
    ends = [top] * _COLUMNS
    for panel in panels:
        span = _span(panel.width)
        heights = [max(ends[first : first + span]) for first in range(_COLUMNS - span + 1)]
        first = heights.index(min(heights))
        yield _MARGIN + first * (_COLUMN + _GAP), heights[first], panel
        ends[first : first + span] = [heights[first] + panel.height + _GAP] * span


def _span(width: float) -> int:
    return min(_COLUMNS, math.ceil((width + _GAP) / (_COLUMN + _GAP)))


def _panel(confusion: Confusion) -> _Panel:
    values = {value for cell in confusion.cells for value in cell if value is not None}
    is_closed = confusion.name == CATEGORIES or not is_free(confusion.name)
    if len(values) > (_MOST_COLUMNS if is_closed else _MOST_VALUES):
        return _list_panel(confusion, len(values))
    return _map_panel(confusion)


def _map_panel(confusion: Confusion) -> _Panel:
    grid = _Grid.of(confusion)
    rows = [_named(value, INVENTED) for value in grid.rows]
    columns = [_named(value, MISSING) for value in grid.columns]
    cell_width, cell_height = _CELL
    left = _PAD + 10 + min(_LONGEST_LABEL, max(map(text_width, rows)))
    top = _HEAD + _slant(min(_LONGEST_LABEL, max(map(text_width, columns))))
    elements = [
        *(_column_label(text, left + (place + 0.5) * cell_width, top) for place, text in enumerate(columns)),
        *(_row_label(text, left, top + (place + 0.65) * cell_height) for place, text in enumerate(rows)),
    ]
    for down, true in enumerate(grid.rows):
        for across, said in enumerate(grid.columns):
            corner = (left + across * cell_width, top + down * cell_height)
            hint = f"true: {rows[down]}, said: {columns[across]}"
            ends = RIGHT if true == said else WRONG
            elements.append(_cell(grid.counts[true, said], grid.totals[true], corner, ends, hint))
    # The last column's label leans out to the right of its column.
    lean = min(_LONGEST_LABEL, text_width(columns[-1])) * 0.79 - cell_width / 2
    width = left + len(columns) * cell_width + max(_PAD, lean)
    return _framed(confusion, elements, width, top + len(rows) * cell_height + _PAD)


def _column_label(text: str, x: float, top: float) -> str:
    shown = label(x - 2, top - 7, shortened(text, _LONGEST_LABEL), turn=-38, fill=_ink(text))
    return with_hint(shown, text)


def _row_label(text: str, left: float, y: float) -> str:
    shown = label(left - 8, y, shortened(text, _LONGEST_LABEL), anchor="end", fill=_ink(text))
    return with_hint(shown, text)


def _ink(text: str) -> str:
    return QUIET if text in (MISSING, INVENTED) else INK


def _slant(length: float) -> float:
    """The height of a label that is turned by 38 degrees."""
    return length * 0.62 + 16


@dataclass(frozen=True, slots=True)
class _Grid:
    """The rows and columns of a heat map, None last, and its counts."""

    rows: tuple[str | None, ...]
    columns: tuple[str | None, ...]
    counts: Counter[Cell]
    totals: Counter[str | None]

    @staticmethod
    def of(confusion: Confusion) -> _Grid:
        values = {value for cell in confusion.cells for value in cell if value is not None}
        whole = confusion.name == CATEGORIES
        ordered = category_order(values) if whole else value_order(confusion.name, values)
        totals: Counter[str | None] = Counter()
        for (true, _), count in confusion.cells.items():
            totals[true] += count
        return _Grid((*ordered, None), (*ordered, None), Counter(confusion.cells), totals)


def _named(value: str | None, otherwise: str) -> str:
    return otherwise if value is None else value


def _cell(count: int, total: int, corner: tuple[float, float], ends: Ends, hint: str) -> str:
    x, y = corner
    width, height = _CELL
    if not count:
        return rectangle(x + 1, y + 1, width - 2, height - 2, EMPTY, radius=3)
    share = count / total
    box = rectangle(x + 1, y + 1, width - 2, height - 2, shade(ends, share), radius=3)
    ink = "#ffffff" if share > 0.5 else INK
    number = label(x + width / 2, y + height / 2 + 4, _short_number(count), fill=ink, anchor="middle")
    return with_hint(box + number, f"{hint}: {count} of {total} ({share:.1%})")


def _list_panel(confusion: Confusion, values: int) -> _Panel:
    """The most frequent confusions of an attribute of many values."""
    wrong = confusion.wrong
    total = sum(confusion.cells.values())
    shown = list(wrong.items())[:_LISTED]
    some = f"the {len(shown)} most frequent of {len(wrong)} confusions, true → said"
    elements = [
        label(
            _PAD, _HEAD + 14, f"{values} different values, {confusion.right} of {total} right;", fill=QUIET
        ),
        label(_PAD, _HEAD + 31, some, fill=QUIET),
    ]
    left = _PAD + 290
    most = max((count for _, count in shown), default=1)
    for number, (cell, count) in enumerate(shown):
        y = _HEAD + 46 + number * 24
        true, said = _named(cell[0], INVENTED), _named(cell[1], MISSING)
        text = f"{shortened(true, _LONGEST_LABEL)}  →  {shortened(said, _LONGEST_LABEL)}"
        shown_text = label(left - 10, y + 14, text, anchor="end")
        elements.append(with_hint(shown_text, f"true: {true}, said: {said}: {count}"))
        length = max(3.0, _BAR * count / most)
        elements.append(rectangle(left, y + 3, length, 15, shade(WRONG, 0.55), radius=3))
        elements.append(label(left + length + 7, y + 14.5, str(count)))
    return _framed(confusion, elements, left + _BAR + 50, _HEAD + 50 + len(shown) * 24 + _PAD / 2)


def _framed(confusion: Confusion, elements: Sequence[str], width: float, height: float) -> _Panel:
    name = "categories in one photo" if confusion.name == CATEGORIES else confusion.name
    figures = _figures(confusion)
    span = _span(max(width, _PAD * 2 + text_width(name, 15), _PAD * 2 + text_width(figures)))
    width = span * (_COLUMN + _GAP) - _GAP
    frame = (
        rectangle(0.5, 0.5, width - 1, height - 1, "#ffffff", stroke=LINE, radius=8),
        label(_PAD, 27, name, size=15, weight="bold"),
        label(_PAD, 46, figures, fill=QUIET),
    )
    return _Panel(confusion.name, width, height, (*frame, *elements))


def _figures(confusion: Confusion) -> str:
    cells = confusion.cells.items()
    true = sum(count for (value, _), count in cells if value is not None)
    said = sum(count for (_, value), count in cells if value is not None)
    recall, precision = (confusion.right / total if total else None for total in (true, said))
    return f"recall {_percent(recall)}, precision {_percent(precision)}"


def _short_number(count: int) -> str:
    return str(count) if count < 100_000 else f"{count / 1000:.0f}k"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"

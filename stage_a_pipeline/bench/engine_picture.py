"""The comparison as a picture: one bar per engine, and how many times the static batch's rate that is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stage_a_pipeline.bench.contenders import CONTENDERS
from stage_a_pipeline.bench.engine_figures import EngineRow
from stage_a_pipeline.bench.engine_table import sentences
from stage_a_pipeline.bench.engines import EngineComparison
from stage_a_pipeline.evaluation.svg import document, label, rectangle, shortened, with_hint
from stage_a_pipeline.storage import atomic_write

_WIDTH: Final = 960
_MARGIN: Final = 20
_NAMES: Final = 230
_FIGURES: Final = 170
_BAR, _STEP = 20, 30
_TOP: Final = 70
_LINE: Final = 18
_INK, _QUIET, _PLAIN, _OURS = "#1f2933", "#66727f", "#9aa5b1", "#0b5cad"
_YARDSTICK: Final = "static"


def write_picture(path: Path, comparison: EngineComparison) -> None:
    """Draw the rows' photos per second to an SVG file. Raises OutputError."""
    with atomic_write(path) as file:
        file.write(engine_picture(comparison))


def engine_picture(comparison: EngineComparison) -> str:
    """The SVG document."""
    rows = comparison.rows
    most = max(row.photos_per_second for row in rows)
    yardstick = next((row.photos_per_second for row in rows if row.engine == _YARDSTICK), None)
    elements = [
        label(_MARGIN, 30, "Engines compared: photos per second", size=18, weight="bold"),
        label(_MARGIN, 50, "grey: plain generate loops; blue: the pipeline", fill=_QUIET),
    ]
    for place, row in enumerate(rows):
        elements += _bar(row, _TOP + place * _STEP, most, yardstick)
    bottom = _TOP + len(rows) * _STEP + _LINE
    room = _WIDTH - 2 * _MARGIN
    captions = sentences(comparison)
    for place, sentence in enumerate(captions):
        text = shortened(sentence, room, 11)
        elements.append(label(_MARGIN, bottom + place * _LINE, text, size=11, fill=_QUIET))
    return document(_WIDTH, bottom + len(captions) * _LINE + _MARGIN / 2, elements)


def _bar(row: EngineRow, top: float, most: float, yardstick: float | None) -> list[str]:
    room = _WIDTH - 2 * _MARGIN - _NAMES - _FIGURES
    width = room * row.photos_per_second / most
    base = top + _BAR - 6
    times = "" if yardstick is None else f", {row.photos_per_second / yardstick:.2f} times static"
    contender = CONTENDERS.get(row.engine)
    fill = _PLAIN if contender is None or contender.batches is not None else _OURS
    bar = rectangle(_MARGIN + _NAMES, top, max(1.0, width), _BAR, fill, radius=2)
    return [
        label(_MARGIN + _NAMES - 10, base, shortened(row.engine, _NAMES - 10, 13), size=13, anchor="end"),
        with_hint(bar, f"{row.engine}: {row.photos_per_second:.3g} photos/s{times}"),
        label(_MARGIN + _NAMES + width + 8, base, f"{row.photos_per_second:.3g}{times}", fill=_INK),
    ]

"""The comparison as a picture: one bar per engine, and how many times the static batch's rate that is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stage_a_pipeline.bench.contenders import CONTENDERS
from stage_a_pipeline.bench.engine_table import sentences
from stage_a_pipeline.bench.engines import EngineComparison
from stage_a_pipeline.storage import atomic_write
from stage_a_pipeline.svg import INK, QUIET, document, label, rectangle, shortened, with_hint

_WIDTH: Final = 960
_MARGIN: Final = 20
_NAMES: Final = 230
_FIGURES: Final = 170
_BAR, _STEP = 20, 30
_TOP: Final = 70
_LINE: Final = 18
_PLAIN, _OURS = "#9aa5b1", "#0b5cad"
_YARDSTICK: Final = "static"


def write_picture(path: Path, comparison: EngineComparison) -> None:
    """Draw the rows' rates to an SVG file. Raises OutputError."""
    with atomic_write(path) as file:
        file.write(engine_picture(comparison))


def engine_picture(comparison: EngineComparison) -> str:
    """The SVG document."""
    rates, unit = _rates(comparison)
    elements = [
        label(_MARGIN, 30, f"Engines compared: photos per {unit}", size=18, weight="bold"),
        label(_MARGIN, 50, "grey: plain generate loops, or a peer; blue: the pipeline", fill=QUIET),
    ]
    for place, (engine, rate) in enumerate(rates.items()):
        times = f", {rate / rates[_YARDSTICK]:.2f} times {_YARDSTICK}" if _YARDSTICK in rates else ""
        said = f"{rate:.3g}{times}"
        elements += _bar(engine, rate / max(rates.values()), said, _TOP + place * _STEP)
    bottom = _TOP + len(rates) * _STEP + _LINE
    room = _WIDTH - 2 * _MARGIN
    captions = sentences(comparison)
    for place, sentence in enumerate(captions):
        text = shortened(sentence, room, 11)
        elements.append(label(_MARGIN, bottom + place * _LINE, text, size=11, fill=QUIET))
    return document(_WIDTH, bottom + len(captions) * _LINE + _MARGIN / 2, elements)


def _rates(comparison: EngineComparison) -> tuple[dict[str, float], str]:
    """Photos by engine, and by what: CPU seconds where they tell most, which other programs disturb least."""
    rows = comparison.rows
    by_cpu = {row.engine: rate for row in rows if (rate := row.photos_per_cpu_second) is not None}
    if comparison.conditions["device"] == "cpu" and len(by_cpu) == len(rows):
        return by_cpu, "CPU second"
    return {row.engine: row.photos_per_second for row in rows}, "second"


def _bar(engine: str, share: float, said: str, top: float) -> list[str]:
    room = _WIDTH - 2 * _MARGIN - _NAMES - _FIGURES
    base = top + _BAR - 6
    contender = CONTENDERS.get(engine)
    fill = _PLAIN if contender is None or contender.batches is not None else _OURS
    bar = rectangle(_MARGIN + _NAMES, top, max(1.0, room * share), _BAR, fill, radius=2)
    return [
        label(_MARGIN + _NAMES - 10, base, shortened(engine, _NAMES - 10, 13), size=13, anchor="end"),
        with_hint(bar, f"{engine}: {said}"),
        label(_MARGIN + _NAMES + room * share + 8, base, said, fill=INK),
    ]

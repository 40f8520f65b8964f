"""The comparison as a table for people, as JSON rows, and in words."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.contenders import REFERENCE
from stage_a_pipeline.bench.engine_figures import EngineRow
from stage_a_pipeline.bench.engines import EngineComparison, environment_note
from stage_a_pipeline.storage import atomic_write

_WIDEST: Final = 160


def print_engines(comparison: EngineComparison) -> None:
    """The table, what it was measured on, and what was left out."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDEST)
    console.print(_table(comparison.rows))
    for sentence in sentences(comparison):
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)


def write_rows(path: Path, comparison: EngineComparison) -> None:
    """The rows as a JSON list; each also says under which conditions it was measured. Raises OutputError."""
    rows = [{**row.to_json(), **comparison.conditions} for row in comparison.rows]
    with atomic_write(path) as file:
        json.dump(rows, file, ensure_ascii=False, indent=2)
        file.write("\n")


def sentences(comparison: EngineComparison) -> list[str]:
    """Conditions, engines that were left out, and engines that gave other answers."""
    environment = environment_note(str(comparison.conditions["device"]))
    said = [condition_sentence(comparison), f"{machine()}; {environment}"]
    said += [f"left out: {name}: {reason}" for name, reason in comparison.left_out.items()]
    if all(row.same_text is None for row in comparison.rows):
        said.append(f"no texts were compared: {REFERENCE!r} was not asked for")
    if comparison.different:
        said.append(f"DIFFERENT ANSWERS than one by one: {', '.join(comparison.different)}")
    return said


def condition_sentence(comparison: EngineComparison) -> str:
    """Shape and photos in one line."""
    conditions = comparison.conditions
    return (
        f"shape {conditions['shape']}, {conditions['dtype']} on {conditions['device']}; "
        f"{conditions['photos']} photos in {conditions['groups']} groups, "
        f"at most {conditions['batch_size']} at once, {conditions['prompt_prefix_tokens']} tokens before "
        f"the photo, median of {conditions['rounds']} rounds"
    )


def machine() -> str:
    """System, processor and number of cores."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _table(rows: tuple[EngineRow, ...]) -> Table:
    columns: dict[str, Callable[[EngineRow], str]] = {
        "engine": lambda row: row.engine,
        "photos/s": lambda row: _number(row.photos_per_second),
        "photos/CPU s": lambda row: _number(row.photos_per_cpu_second),
        "tokens/s": lambda row: _number(row.tokens_per_second),
        "batch fill": lambda row: _percent(row.batch_fill),
        "wasted row-steps": lambda row: _percent(row.wasted_row_steps),
        "padding": lambda row: _percent(row.padding_share),
        "device waits": lambda row: _percent(row.device_wait_share),
        "peak MiB": lambda row: "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
        "same text": lambda row: _percent(row.same_text) + ("" if row.must_be_same else " (may differ)"),
    }
    if any(row.roofline_share is not None for row in rows):
        columns["of roofline"] = lambda row: _percent(row.roofline_share)
    table = Table()
    for name in columns:
        table.add_column(name, justify="left" if name == "engine" else "right")
    for row in rows:
        table.add_row(*(show(row) for show in columns.values()))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"

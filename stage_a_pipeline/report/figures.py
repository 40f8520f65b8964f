"""How fast a mission's answers came, as its tables remember it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from stage_a_pipeline.storage import child_path
from stage_a_pipeline.table_files import open_parquet
from stage_a_pipeline.tables import table_metadata

KEY = "figures"
"""The metadata of an answers' table that holds them, as JSON."""
_TABLES = "clean_summaries"


def figures_from(metadata: Mapping[str, str]) -> Mapping[str, float]:
    """The figures that a table's metadata tells; none of one that tells none."""
    figures: Mapping[str, float] = json.loads(metadata.get(KEY, "{}"))
    return figures


def find_figures(work_dir: Path, mission: str) -> Mapping[str, float]:
    """The figures of the mission's last run in a work folder; none where it has gone or cannot be read."""
    path = child_path(work_dir / "tables" / _TABLES, f"{mission}.parquet")
    try:
        return figures_from(table_metadata(open_parquet(path)))
    except (OSError, pa.ArrowException):
        return {}

"""Lines and tickets as Stage-A delivers them."""

from __future__ import annotations

import json
from pathlib import Path

from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.stage_b.tickets import Ticket
from tests.stage_b.trained import trained  # noqa: F401 - a fixture

MISSIONS = load_missions()
BBU, RRU = "挡风板安装检查", "RRU线缆"


def line(**changes: object) -> str:
    """A line that gives a ticket, with some keys replaced; a key set to None is left out."""
    fields = {
        "group_id": "QC-1",
        "mission": BBU,
        "label": "pass",
        "images": ["1.jpg", "2.jpg"],
        "per_image": {"image_1": "甲", "image_2": "乙"},
    } | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)


def write_lines(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((one.encode() if isinstance(one, str) else one) + b"\n" for one in lines))
    return path


def ticket(
    group_id: str, label: str = "pass", *summaries: str, mission: str = BBU, number: int = 1
) -> Ticket:
    return Ticket(group_id, mission, label, summaries or ("甲",), Path("a.jsonl"), number)

"""Summaries, readings and evaluations in few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stage_a_pipeline.evaluation.document import Evaluation, Subject, summarise_readings
from stage_a_pipeline.evaluation.scores import Reading, compare_answer
from stage_a_pipeline.evaluation.truth import Unmatched
from stage_a_pipeline.missions import load_missions

MISSIONS = load_missions()
BBU, RRU = MISSIONS["挡风板安装检查"], MISSIONS["RRU线缆"]
NOTHING = "无关图片"


def summary(*entries: tuple[str, dict[str, dict[str, Any]]], **more: Any) -> str:
    """`("电线", {"捆扎": {"整齐": 1}})` and so on as a canonical line."""
    rows = [{"类别": name, **attributes} for name, attributes in entries]
    return json.dumps({"统计": rows, **more}, ensure_ascii=False)


def wire(**counts: int) -> str:
    """A summary of wires alone."""
    return summary(("电线", {"捆扎": counts}))


def read(truth: str, said: str, *, mission=BBU, path: str = "a.jpg", rejected=None) -> Reading:
    return compare_answer(truth, said, mission=mission, path=path, rejected=rejected)


def evaluation(*pairs: tuple[str, str]) -> Evaluation:
    """An evaluation of these (true, said) summaries of one mission."""
    readings = [read(truth, said, path=f"{number}.jpg") for number, (truth, said) in enumerate(pairs)]
    subject = Subject("builtin", {BBU.name: "f"}, Path("/photos"), Path("/photos/truth.jsonl"))
    return summarise_readings(subject, {BBU.name: readings}, Unmatched())

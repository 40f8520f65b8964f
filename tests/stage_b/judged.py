"""Tickets and verdicts in few words."""

from __future__ import annotations

from pathlib import Path

from stage_a_pipeline.records import Label
from stage_a_pipeline.stage_b.scores import Comparison, compare_answers
from stage_a_pipeline.stage_b.tickets import Ticket

MISSION, OTHER = "挡风板安装检查", "BBU线缆布放"
PASS, FAIL, BROKEN = "通过\n理由: 符合", "不通过\n理由：螺丝松动", "看不清"
WORDS = {"p": PASS, "f": FAIL, "?": BROKEN}
LABELS: dict[str, Label] = {"p": "pass", "f": "fail"}


def ticket(group_id: str, label: Label = "pass", *, mission: str = MISSION, line: int = 1) -> Ticket:
    return Ticket(group_id, mission, label, ("无关图片",), Path("a.jsonl"), line)


def tickets(labels: str, *, mission: str = MISSION) -> list[Ticket]:
    """A ticket for each letter, p or f, each of its own group."""
    return [
        ticket(f"{mission}-{number}", LABELS[letter], mission=mission, line=number)
        for number, letter in enumerate(labels, start=1)
    ]


def answers(letters: str) -> list[str]:
    """An answer for each letter: p, f, or ? for one that is none."""
    return [WORDS[letter] for letter in letters]


def compare(labels: str, before: str, after: str, *, mission: str = MISSION) -> Comparison:
    return compare_answers(
        tickets(labels, mission=mission), answers(before), answers(after), samples=200, seed=1
    )

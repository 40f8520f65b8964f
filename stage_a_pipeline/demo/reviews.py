"""The reviewers' workbook of a demo tree: one row per reason, without a header."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final

from stage_a_pipeline.demo.tree_plan import PlannedGroup

FAIL_FLAG, PASS_FLAG = 2, 1
MISSING_CHANCE: Final = 0.12
"""Chance that a failed group has no row."""

STRAY_SHARE: Final = 0.03
"""Rows, per group of the tree, for tickets that are not in the tree; at least one."""

_WRITTEN: Final = datetime(2024, 12, 31, 12, 0, 0)
_REVIEWERS: Final = ("审核员甲", "审核员乙", "审核员丙")
_STRAY_REASONS: Final = ("照片模糊，无法判断", "照片与工单不符")
_WRONG_REASONS: Final = ("安装不规范", "照片不齐全")
"""What reviewers write about a group that they fail by mistake."""


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One row: columns 0 to 6 of the sheet."""

    group_id: str
    reviewed: str
    mission: str
    site: str
    reviewer: str
    reason: str
    flag: int


def review_rows(groups: Sequence[PlannedGroup], *, seed: int) -> list[ReviewRow]:
    """What the reviewers wrote about these groups; reasons are those of the groups' verdicts."""
    rng = Random(f"{seed}/reviews")
    rows: list[ReviewRow] = []
    for group in groups:
        if group.label == "pass":
            rows.append(_row(rng, group, "", PASS_FLAG))
        elif rng.random() >= MISSING_CHANCE:
            rows += [_row(rng, group, reason, FAIL_FLAG) for reason in _written_reasons(rng, group)]
    for _ in range(max(1, round(len(groups) * STRAY_SHARE))):
        rows.append(_stray_row(rng, rng.choice(groups)))
    rng.shuffle(rows)
    return rows


def encode_workbook(rows: Sequence[ReviewRow]) -> bytes:
    """The rows as an xlsx file; the same rows, the same bytes."""
    from xlsxwriter import Workbook

    encoded = io.BytesIO()
    with Workbook(encoded, {"in_memory": True}) as workbook:
        workbook.set_properties({"title": "审核结果（示例）", "created": _WRITTEN})
        sheet = workbook.add_worksheet("审核结果")
        for number, row in enumerate(rows):
            cells = (row.group_id, row.reviewed, row.mission, row.site, row.reviewer, row.reason)
            for column, text in enumerate(cells):
                sheet.write_string(number, column, text)
            sheet.write_number(number, len(cells), row.flag)
    return encoded.getvalue()


def _written_reasons(rng: Random, group: PlannedGroup) -> list[str]:
    """All reasons in one cell, or a row for each; one that the photos do not show for a mislabelled pass."""
    reasons = group.verdict.reasons or (rng.choice(_WRONG_REASONS),)
    return ["；".join(reasons)] if rng.random() < 0.4 else list(reasons)


def _row(rng: Random, group: PlannedGroup, reason: str, flag: int) -> ReviewRow:
    day = group.ticket.day
    return ReviewRow(
        group_id=group.ticket.group_id,
        reviewed=f"{day[:4]}-{day[4:6]}-{day[6:]} {rng.randint(8, 18):02d}:{rng.randint(0, 59):02d}",
        mission=group.mission.name,
        site=f"示例站点{rng.randint(1, 400):03d}",
        reviewer=rng.choice(_REVIEWERS),
        reason=reason,
        flag=flag,
    )


def _stray_row(rng: Random, like: PlannedGroup) -> ReviewRow:
    row = _row(rng, like, rng.choice(_STRAY_REASONS), FAIL_FLAG)
    # Tickets of the tree are numbered below 9999999.
    return ReviewRow(
        f"QC-{like.ticket.day}-9999999",
        row.reviewed,
        row.mission,
        row.site,
        row.reviewer,
        row.reason,
        row.flag,
    )

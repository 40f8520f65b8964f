"""The reviewers' reasons for a fail: from their workbook, by ticket, into the records."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stage_a_pipeline.errors import ConfigurationError, WorkbookError
from stage_a_pipeline.missions import MissionTable
from stage_a_pipeline.places import Place, as_place
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.settings import FailReasonSettings
from stage_a_pipeline.vocabulary import Dataset
from stage_a_pipeline.workbook import Cell, Sheet, read_sheet

SHEET_DATASETS: Final[frozenset[Dataset]] = frozenset({"bbu"})
"""Datasets whose missions the reviewers keep a sheet for; records of others pass as they are."""

TicketKey = tuple[str, str]
"""Group id and mission."""

NO_GROUP_ID: Final = "no_group_id"
GROUP_ID_IS_NO_TEXT: Final = "group_id_is_no_text"
"""A date or a truth value: a program's guess at what the reviewer typed, which cannot be undone."""
NO_MISSION: Final = "no_mission"
UNKNOWN_MISSION: Final = "unknown_mission"
NOT_A_FAIL: Final = "not_a_fail"
NO_REASON: Final = "no_reason"
DROP_REASONS: Final = (NO_GROUP_ID, GROUP_ID_IS_NO_TEXT, NO_MISSION, UNKNOWN_MISSION, NOT_A_FAIL, NO_REASON)
"""Why a row is not used; the first that applies is told."""

_INEXACT: Final = 10**15
"""A spreadsheet keeps 15 digits of a number; the others of a longer one are zeros or noise."""
_LISTED: Final = 20
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff"))
_COLUMN_ROLES: Final = ("group_id_column", "mission_column", "reason_column", "flag_column")


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Rows that were not used, for one of DROP_REASONS; `rows` are the first twenty of their numbers."""

    reason: str
    count: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FailReasons:
    """The reasons by group id and mission, each sorted and once, and what became of the rows."""

    by_ticket: Mapping[TicketKey, tuple[str, ...]]
    rows_read: int = 0
    dropped: tuple[DroppedRows, ...] = ()
    warnings: tuple[str, ...] = ()

    def dropped_counts(self) -> dict[str, int]:
        """How many rows were dropped, by reason."""
        return {rows.reason: rows.count for rows in self.dropped}


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    group_id: Cell
    mission: Cell
    reason: Cell
    flag: Cell


def load_fail_reasons(
    path: str | Place,
    settings: FailReasonSettings = FailReasonSettings(),  # noqa: B008 - frozen
    *,
    missions: MissionTable | None = None,
) -> FailReasons:
    """The reasons in the workbook at `path`; only columns, sheet and flag of `settings` are used.

    With `missions`, a mission may stand under its alias, and rows of unknown missions are dropped.
    Rows without any value do not count as read. WorkbookError names file, cause and remedy.
    """
    place = as_place(path) if isinstance(path, str) else path
    sheet = read_sheet(place, settings.sheet)
    reasons: dict[TicketKey, set[str]] = {}
    dropped: dict[str, list[_Row]] = {why: [] for why in DROP_REASONS}
    kept: list[_Row] = []
    for row in _rows(sheet, place, settings):
        mission = _known_mission(row, missions)
        why = _reason_to_drop(row, mission, settings.fail_flag)
        if why is not None:
            dropped[why].append(row)
            continue
        kept.append(row)
        reasons.setdefault((cell_text(row.group_id), mission), set()).add(cell_text(row.reason))
    return FailReasons(
        by_ticket={ticket: tuple(sorted(reasons[ticket])) for ticket in sorted(reasons)},
        rows_read=len(kept) + sum(map(len, dropped.values())),
        dropped=tuple(DroppedRows(why, len(rows), _numbers(rows)) for why, rows in dropped.items() if rows),
        warnings=tuple(f"sheet {sheet.name!r} of {path}: {text}" for text in _warnings(kept, dropped)),
    )


def join_fail_reasons(records: Iterable[GroupRecord], reasons: FailReasons) -> Iterator[GroupRecord]:
    """The records in their order, each fail record with its reasons: none where the workbook has none."""
    for record in records:
        if record.label == "fail":
            yield replace(record, fail_reasons=reasons.by_ticket.get(_ticket(record), ()))
        else:
            yield record


@dataclass(frozen=True, slots=True)
class MatchReport:
    """Group ids of one mission: fail groups with and without reasons, and reasons without a fail group."""

    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    without_group: tuple[str, ...]


def match_report(records: Iterable[GroupRecord], reasons: FailReasons, mission: str) -> MatchReport:
    """How the fail records of a mission and the workbook fit; each part in the order of its source."""
    mission = _normal(mission)
    failed = {
        _ticket(record): record.group_id
        for record in records
        if record.label == "fail" and _normal(record.mission) == mission
    }
    return MatchReport(
        matched=tuple(group_id for ticket, group_id in failed.items() if ticket in reasons.by_ticket),
        unmatched=tuple(group_id for ticket, group_id in failed.items() if ticket not in reasons.by_ticket),
        without_group=tuple(
            ticket[0] for ticket in reasons.by_ticket if ticket[1] == mission and ticket not in failed
        ),
    )


def cell_text(cell: Cell) -> str:
    """A cell as one trimmed line in NFC: 123 for the number 123.0, and 0123 where that is text."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return _normal(str(cell))


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def _ticket(record: GroupRecord) -> TicketKey:
    return _normal(record.group_id), _normal(record.mission)


def _rows(sheet: Sheet, path: Place, settings: FailReasonSettings) -> Iterator[_Row]:
    where = f"sheet {sheet.name!r} of {path}"
    numbered = enumerate(sheet.rows, start=1)
    filled = [(number, cells) for number, cells in numbered if any(map(cell_text, cells))]
    if not filled:
        raise WorkbookError(f"{where} is empty; correct fail_reasons.sheet")
    header = [cell_text(cell) for cell in filled.pop(0)[1]] if settings.header else None
    places = [
        _column_place(column, f"fail_reasons.{role}", header, sheet.width, where)
        for role, column in zip(_COLUMN_ROLES, settings.columns, strict=True)
    ]
    for number, cells in filled:
        yield _Row(number, *(cells[place] for place in places))


def _column_place(column: int | str, setting: str, header: list[str] | None, width: int, where: str) -> int:
    if isinstance(column, int):
        if column >= width:
            raise WorkbookError(
                f"{where} has {width} columns, counted from 0; column {column} ({setting}) is not there. "
                "Correct the setting or give the reviewers' workbook"
            )
        return column
    assert header is not None, "settings allow names only with a header"
    count = header.count(_normal(column))
    if count != 1:
        shown = ", ".join(repr(name) for name in header if name)
        raise WorkbookError(
            f"{where} has {'no column' if not count else f'{count} columns'} {column!r} ({setting}); "
            f"its first row has {shown}. Correct the setting"
        )
    return header.index(_normal(column))


def _known_mission(row: _Row, missions: MissionTable | None) -> str:
    """The mission's own name, or nothing for an unknown one."""
    name = cell_text(row.mission)
    if missions is None:
        return name
    try:
        return missions.require(name).name
    except ConfigurationError:
        return ""


def _reason_to_drop(row: _Row, mission: str, fail_flag: int) -> str | None:
    checks = (
        (NO_GROUP_ID, not cell_text(row.group_id)),
        (
            GROUP_ID_IS_NO_TEXT,
            isinstance(row.group_id, bool) or not isinstance(row.group_id, str | int | float),
        ),
        (NO_MISSION, not cell_text(row.mission)),
        (UNKNOWN_MISSION, not mission),
        (NOT_A_FAIL, not _is_flag(row.flag, fail_flag)),
        (NO_REASON, not cell_text(row.reason)),
    )
    return next((why for why, applies in checks if applies), None)


def _is_flag(cell: Cell, flag: int) -> bool:
    if isinstance(cell, bool):
        return False
    if isinstance(cell, str):
        try:
            return float(_normal(cell)) == flag
        except ValueError:
            return False
    return cell == flag


def _warnings(kept: Sequence[_Row], dropped: Mapping[str, Sequence[_Row]]) -> Iterator[str]:
    as_text = "format the column as text and enter the ids again"
    long_numbers = [row for row in kept if isinstance(row.group_id, int | float) and row.group_id >= _INEXACT]
    if long_numbers:
        yield (
            f"group ids of more than 15 digits are stored as numbers and have lost the digits behind "
            f"(rows {_listed(long_numbers)}); {as_text}"
        )
    if dropped[GROUP_ID_IS_NO_TEXT]:
        rows = _listed(dropped[GROUP_ID_IS_NO_TEXT])
        yield f"group ids have become dates or truth values (rows {rows}); {as_text}"
    if dropped[UNKNOWN_MISSION]:
        names = sorted({cell_text(row.mission) for row in dropped[UNKNOWN_MISSION]})
        shown = ", ".join(map(repr, names[:_LISTED]))
        yield f"unknown missions {shown}; correct the names or add them as aliases in a missions file"
    if not kept:
        yield "no row is a fail with a reason; check fail_reasons.flag_column and fail_reasons.fail_flag"


def _listed(rows: Sequence[_Row]) -> str:
    more = f" and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
    return ", ".join(map(str, _numbers(rows))) + more


def _numbers(rows: Sequence[_Row]) -> tuple[int, ...]:
    return tuple(row.number for row in rows[:_LISTED])

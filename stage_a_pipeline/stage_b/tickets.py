"""Stage-B's tickets: from the lines of canonical JSONL files, those that it can learn from."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import numbered_lines
from stage_a_pipeline.missions import MissionTable
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Label
from stage_a_pipeline.stage_b.ticket_lines import SkipReason, UnfitLineError, parse_ticket_line

_LISTED: Final = 5
"""How many skipped lines of each reason are told one by one; all are counted."""
_REMEDY: Final = "give canonical JSONL files of Stage-A (grpo.files)"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One inspection of a group: its summaries in the order of its photos, and the reviewers' label."""

    group_id: str
    mission: str
    label: Label
    summaries: tuple[str, ...]
    source: Place
    line: int

    @property
    def ticket_key(self) -> str:
        """`group_id::label`, the key under which Stage-B knows the ticket within its mission."""
        return f"{self.group_id}::{self.label}"

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.source}, line {self.line}"


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """One line that gives no ticket, and why; `detail` is a sentence about it."""

    source: Place
    line: int
    reason: SkipReason
    detail: str

    def sentence(self) -> str:
        """For a log."""
        return f"{self.source}, line {self.line}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Tickets:
    """The tickets of all files in the order of files and lines, and every other line."""

    tickets: tuple[Ticket, ...]
    skipped: tuple[SkippedLine, ...] = ()

    def skipped_counts(self) -> dict[SkipReason, int]:
        """How many lines were skipped, by reason, the most frequent first."""
        return dict(Counter(line.reason for line in self.skipped).most_common())

    def sentences(self) -> tuple[str, ...]:
        """What a log should tell: nothing where no line was skipped.

        Lines of other missions were left out on purpose: they are counted, and not listed.
        """
        if not self.skipped:
            return ()
        read = len(self.tickets) + len(self.skipped)
        counts = self.skipped_counts()
        listed = _first_of_each(line for line in self.skipped if line.reason != "other mission")
        more = len(self.skipped) - counts.get("other mission", 0) - len(listed)
        return (
            f"skipped {len(self.skipped)} of {read} lines: {_counted(counts)}",
            *(line.sentence() for line in listed),
            *([f"and {more} more"] if more else []),
        )


def read_tickets(paths: Sequence[Place], *, missions: MissionTable, only: Sequence[str] = ()) -> Tickets:
    """The tickets of canonical JSONL files; with `only`, those of these missions (names or aliases).

    A line needs mission, group_id, label and per_image; one that cannot be used is skipped with its
    reason. A file given twice is read once; of tickets with the same mission and key the first is
    kept. InputError for a file that cannot be read, and where no ticket is left; ConfigurationError for
    an unknown mission in `only`.
    """
    if not paths:
        raise InputError(f"no files of tickets were given; {_REMEDY}, or run the missions first")
    wanted = frozenset(missions.require(name).name for name in only)
    reader = _Reader(missions, wanted or frozenset(missions))
    for path in _distinct(paths):
        reader.read(path)
    found = Tickets(tuple(reader.tickets), tuple(reader.skipped))
    if not found.tickets:
        raise InputError(_nothing_left(found, paths))
    return found


class _Reader:
    """Collects the tickets of one file after the other, and knows those that it has already."""

    def __init__(self, missions: MissionTable, wanted: frozenset[str]) -> None:
        self.tickets: list[Ticket] = []
        self.skipped: list[SkippedLine] = []
        self._wanted = wanted
        self._names = {
            folder: mission.name for mission in missions.values() for folder in mission.folder_names
        }
        self._first: dict[tuple[str, str], Ticket] = {}

    def read(self, path: Place) -> None:
        for number, line in numbered_lines(path, what="file", remedy=_REMEDY):
            try:
                self.tickets.append(self._new_ticket(path, number, line))
            except UnfitLineError as unfit:
                self.skipped.append(SkippedLine(path, number, unfit.reason, unfit.detail))

    def _new_ticket(self, path: Place, number: int, line: bytes) -> Ticket:
        parsed = parse_ticket_line(line, first=number == 1)
        name = self._names.get(unicodedata.normalize("NFC", parsed.mission))
        if name is None:
            raise UnfitLineError("unknown mission", f"the mission table does not have {parsed.mission!r}")
        if name not in self._wanted:
            raise UnfitLineError("other mission", f"{name} was not asked for")
        ticket = Ticket(parsed.group_id, name, parsed.label, parsed.summaries, path, number)
        first = self._first.setdefault((name, ticket.ticket_key), ticket)
        if first is not ticket:
            same = "the same" if first.summaries == ticket.summaries else "other"
            raise UnfitLineError(
                "duplicate ticket", f"{ticket.ticket_key} stands at {first.place} with {same} summaries"
            )
        return ticket


def _distinct(paths: Sequence[Place]) -> Iterator[Place]:
    seen: set[Place] = set()
    for path in paths:
        file = path.resolve() if isinstance(path, Path) else path
        if file not in seen:
            seen.add(file)
            yield path


def _nothing_left(found: Tickets, paths: Sequence[Place]) -> str:
    names = ", ".join(map(str, _distinct(paths)))
    if not found.skipped:
        return f"{names}: no lines at all; {_REMEDY}, or run the missions first"
    first = "; ".join(line.sentence() for line in found.skipped[:3])
    return (
        f"{names}: no ticket can be used, of {len(found.skipped)} lines: "
        f"{_counted(found.skipped_counts())}; first: {first}; {_REMEDY}"
    )


def _first_of_each(lines: Iterable[SkippedLine]) -> list[SkippedLine]:
    seen: Counter[SkipReason] = Counter()
    listed = []
    for line in lines:
        seen[line.reason] += 1
        if seen[line.reason] <= _LISTED:
            listed.append(line)
    return listed


def _counted(counts: Mapping[SkipReason, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())

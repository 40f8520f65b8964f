"""Pure metrics: how often verdicts are right, and which way the others are wrong, with 95% intervals.

Shares are micro: counts are summed over tickets first. docs/stage-b-evaluation.md defines each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.stage_b.answer import read_verdict
from stage_a_pipeline.stage_b.bootstrap import Estimate, Resampled
from stage_a_pipeline.stage_b.tickets import Ticket

Said = Literal["pass", "fail", "unreadable"]
"""What an answer says; unreadable ones have not the form of a verdict."""
SAID: Final[tuple[Said, ...]] = get_args(Said)

Confusion = Mapping[Label, Mapping[Said, int]]
"""Counts by true label, then by what was said; every cell is there."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares over some tickets, or what became of them after - before; None over no ticket.

    An unreadable answer is wrong, but neither a false pass nor a false fail.
    """

    accuracy: Estimate | None
    format: Estimate | None
    false_pass: Estimate | None
    false_fail: Estimate | None


MEASURES: Final[Mapping[str, str]] = {
    "accuracy": "tickets",
    "format": "tickets",
    "false_pass": "fail",
    "false_fail": "pass",
}
"""The shares, and what each is a share of: all tickets, or those of a label."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One side's scores over some tickets. `groups` are those that the intervals resample."""

    tickets: int
    groups: int
    shares: Shares
    confusion: Confusion

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        confusion = {label: dict(row) for label, row in self.confusion.items()}
        counts = {"tickets": self.tickets, "groups": self.groups}
        return {**counts, **asdict(self.shares), "confusion": confusion}


@dataclass(frozen=True, slots=True)
class TicketScores:
    """The scores over all tickets, and those of each mission that has any, by name."""

    total: Scores
    per_mission: Mapping[str, Scores]

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        missions = {name: scores.to_mapping() for name, scores in self.per_mission.items()}
        return {**self.total.to_mapping(), "per_mission": missions}


@dataclass(frozen=True, slots=True)
class Compared:
    """The same tickets judged twice; `difference` is after - before, paired."""

    before: Scores
    after: Scores
    difference: Shares

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        return {
            "before": self.before.to_mapping(),
            "after": self.after.to_mapping(),
            "difference": asdict(self.difference),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tickets judged twice, and those of each mission that has any, by name."""

    total: Compared
    per_mission: Mapping[str, Compared]

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        missions = {name: compared.to_mapping() for name, compared in self.per_mission.items()}
        return {**self.total.to_mapping(), "per_mission": missions}


def score_answers(
    tickets: Sequence[Ticket], answers: Sequence[str], *, samples: int, seed: int
) -> TicketScores:
    """The scores of one answer per ticket; ValueError for another number of them."""
    judged = _judge(tickets, answers)
    missions = _by_mission(judged)
    return TicketScores(
        _score(judged, samples, seed), {name: _score(rows, samples, seed) for name, rows in missions.items()}
    )


def compare_answers(
    tickets: Sequence[Ticket], before: Sequence[str], after: Sequence[str], *, samples: int, seed: int
) -> Comparison:
    """The scores of two answers per ticket, over the same resamples; each side as `score_answers` has it."""
    judged = _judge(tickets, before, after)
    missions = _by_mission(judged)
    return Comparison(
        _compare(judged, samples, seed),
        {name: _compare(rows, samples, seed) for name, rows in missions.items()},
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """A ticket, and what each side says of it."""

    ticket: Ticket
    said: tuple[Said, ...]


def _judge(tickets: Sequence[Ticket], *sides: Sequence[str]) -> list[_Judged]:
    for answers in sides:
        if len(answers) != len(tickets):
            raise ValueError(f"{len(answers)} answers to {len(tickets)} tickets; give one for each")
    texts = zip(*sides, strict=True)
    return [_Judged(ticket, tuple(map(_said, row))) for ticket, row in zip(tickets, texts, strict=True)]


def _said(text: str) -> Said:
    return read_verdict(text) or "unreadable"


def _by_mission(judged: Sequence[_Judged]) -> dict[str, list[_Judged]]:
    missions: dict[str, list[_Judged]] = {name: [] for name in sorted({one.ticket.mission for one in judged})}
    for one in judged:
        missions[one.ticket.mission].append(one)
    return missions


def _score(judged: Sequence[_Judged], samples: int, seed: int) -> Scores:
    return _side(judged, _resample(judged, samples, seed, sides=1), 0)


def _compare(judged: Sequence[_Judged], samples: int, seed: int) -> Compared:
    resampled = _resample(judged, samples, seed, sides=2)
    differences = {
        name: resampled.difference(f"{name} 0", f"{name} 1", whole) for name, whole in MEASURES.items()
    }
    return Compared(_side(judged, resampled, 0), _side(judged, resampled, 1), Shares(**differences))


def _resample(judged: Sequence[_Judged], samples: int, seed: int, *, sides: int) -> Resampled:
    labels = [one.ticket.label for one in judged]
    columns: dict[str, Sequence[float]] = {"tickets": [1] * len(judged)}
    columns |= {label: [found == label for found in labels] for label in LABELS}
    for side in range(sides):
        pairs = [(one.ticket.label, one.said[side]) for one in judged]
        columns[f"accuracy {side}"] = [true == said for true, said in pairs]
        columns[f"format {side}"] = [said != "unreadable" for _, said in pairs]
        columns[f"false_pass {side}"] = [pair == ("fail", "pass") for pair in pairs]
        columns[f"false_fail {side}"] = [pair == ("pass", "fail") for pair in pairs]
    return Resampled(columns, [one.ticket.group_id for one in judged], samples=samples, seed=seed)


def _side(judged: Sequence[_Judged], resampled: Resampled, side: int) -> Scores:
    counts = Counter((one.ticket.label, one.said[side]) for one in judged)
    return Scores(
        tickets=len(judged),
        groups=resampled.clusters,
        shares=Shares(**{name: resampled.share(f"{name} {side}", whole) for name, whole in MEASURES.items()}),
        confusion={label: {said: counts[label, said] for said in SAID} for label in LABELS},
    )

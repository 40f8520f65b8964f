"""Tickets that the trained judge sees the other way: where the label itself may be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from stage_a_pipeline.records import Label
from stage_a_pipeline.stage_b.answer import read_reason, read_verdict
from stage_a_pipeline.stage_b.tickets import Ticket

LISTED: Final = 50
"""How many suspects are listed where nobody says; all are counted."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A ticket, the verdict against its label, and the reason that was given.

    `resubmitted` ones share their group id with another ticket of the mission: their photos changed between
    the two, or one of the labels is wrong.
    """

    mission: str
    group_id: str
    label: Label
    said: Label
    reason: str
    resubmitted: bool
    place: str


@dataclass(frozen=True, slots=True)
class Suspects:
    """How many tickets of each mission are judged against their label, and the first of them."""

    per_mission: Mapping[str, int]
    listed: tuple[Suspect, ...]

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.per_mission.values())

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        return {
            "tickets": self.count,
            "per_mission": dict(self.per_mission),
            "listed": [asdict(suspect) for suspect in self.listed],
        }


def find_suspects(tickets: Sequence[Ticket], answers: Sequence[str], *, listed: int = LISTED) -> Suspects:
    """The tickets whose answer says the other label, by mission, group id and label.

    Unreadable answers accuse nobody. ValueError for another number of answers than tickets.
    """
    if len(answers) != len(tickets):
        raise ValueError(f"{len(answers)} answers to {len(tickets)} tickets; give one for each")
    found = sorted(
        _suspects(tickets, answers), key=lambda one: (one.mission, one.group_id, one.label, one.place)
    )
    return Suspects(dict(Counter(suspect.mission for suspect in found)), tuple(found[:listed]))


def _suspects(tickets: Sequence[Ticket], answers: Sequence[str]) -> Iterator[Suspect]:
    submissions = Counter((ticket.mission, ticket.group_id) for ticket in tickets)
    for ticket, answer in zip(tickets, answers, strict=True):
        said = read_verdict(answer)
        if said is None or said == ticket.label:
            continue
        yield Suspect(
            mission=ticket.mission,
            group_id=ticket.group_id,
            label=ticket.label,
            said=said,
            reason=read_reason(answer).strip(),
            resubmitted=submissions[ticket.mission, ticket.group_id] > 1,
            place=ticket.place,
        )

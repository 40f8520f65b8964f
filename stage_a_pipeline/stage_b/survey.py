"""What can be known of tickets before a model learns from them: shares, contradictions, sizes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from statistics import median
from typing import Final

from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.stage_b.tickets import Ticket
from stage_a_pipeline.vocabulary import IRRELEVANT

_LISTED: Final = 20
"""How many contradictions are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two tickets of one mission with the same summaries, in whatever order, of which one passed."""

    passed: Ticket
    failed: Ticket

    def to_mapping(self) -> dict[str, str]:
        """As plain JSON data: keys and places of both."""
        return {
            "mission": self.passed.mission,
            "passed": self.passed.ticket_key,
            "passed_at": self.passed.place,
            "failed": self.failed.ticket_key,
            "failed_at": self.failed.place,
        }

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.passed.mission}: the same summaries passed as {self.passed.group_id} "
            f"({self.passed.place}) and failed as {self.failed.group_id} ({self.failed.place})"
        )


@dataclass(frozen=True, slots=True)
class MissionSurvey:
    """The tickets of one mission.

    `resubmissions` are group ids with both labels. `contradictions` are pairs of tickets with the same
    summaries and opposite labels; of such tickets every rule over summaries, whatever their order, gets
    at least `out_of_reach` wrong. `group_median` and `group_max` are photos per ticket.
    """

    mission: str
    tickets: int
    passes: int
    fails: int
    resubmissions: int
    contradictions: int
    out_of_reach: int
    irrelevant_only: int
    group_median: float
    group_max: int

    @property
    def rarer_share(self) -> float:
        """The share of the rarer label: 0 where there is but one."""
        return min(self.passes, self.fails) / self.tickets

    @property
    def best_accuracy(self) -> float:
        """What the best rule over summaries can reach on these tickets."""
        return 1 - self.out_of_reach / self.tickets

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        return asdict(self) | {"rarer_share": self.rarer_share, "best_accuracy": self.best_accuracy}

    def sentences(self) -> Iterator[str]:
        """For people: the counts, and what deserves a look."""
        yield (
            f"{self.mission}: tickets {self.tickets} (pass {self.passes}, fail {self.fails}; the rarer "
            f"{self.rarer_share:.1%}), photos per ticket {self.group_median:g} in the median, "
            f"{self.group_max} at most"
        )
        if not self.passes or not self.fails:
            yield f"{self.mission}: one label only; nothing tells pass from fail here"
        if self.resubmissions:
            yield f"{self.mission}: group ids with both labels (resubmissions): {self.resubmissions}"
        if self.contradictions:
            yield (
                f"{self.mission}: pairs of tickets with the same summaries and opposite labels: "
                f"{self.contradictions}; no rule over summaries is right on more than {self.best_accuracy:.1%}"
            )
        if self.irrelevant_only:
            yield f"{self.mission}: tickets whose photos are all {IRRELEVANT}: {self.irrelevant_only}"


@dataclass(frozen=True, slots=True)
class Survey:
    """All missions by name, and the first of the contradictions."""

    missions: tuple[MissionSurvey, ...]
    contradictions: tuple[Contradiction, ...]

    @property
    def tickets(self) -> int:
        """Of all missions."""
        return sum(mission.tickets for mission in self.missions)

    @property
    def best_accuracy(self) -> float:
        """What the best rule over mission and summaries can reach; 1 without tickets."""
        out_of_reach = sum(mission.out_of_reach for mission in self.missions)
        return 1 - out_of_reach / self.tickets if self.tickets else 1.0

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        return {
            "tickets": self.tickets,
            "best_accuracy": self.best_accuracy,
            "missions": [mission.to_mapping() for mission in self.missions],
            "contradictions": [pair.to_mapping() for pair in self.contradictions],
        }

    def sentences(self) -> tuple[str, ...]:
        """For people."""
        total = sum(mission.contradictions for mission in self.missions)
        more = total - len(self.contradictions)
        return (
            *(sentence for mission in self.missions for sentence in mission.sentences()),
            *(pair.sentence() for pair in self.contradictions),
            *([f"and {more} more pairs of opposite labels"] if more else []),
        )


def survey_tickets(tickets: Iterable[Ticket]) -> Survey:
    """What should be known of tickets before training; the first 20 contradictions are listed."""
    by_mission: dict[str, list[Ticket]] = defaultdict(list)
    for ticket in tickets:
        by_mission[ticket.mission].append(ticket)
    names = sorted(by_mission)
    pairs = (pair for name in names for alike in _alike(by_mission[name]) for pair in _pairs(alike))
    return Survey(
        missions=tuple(_survey_mission(name, by_mission[name]) for name in names),
        contradictions=tuple(islice(pairs, _LISTED)),
    )


def _survey_mission(name: str, tickets: Sequence[Ticket]) -> MissionSurvey:
    labels = Counter(ticket.label for ticket in tickets)
    labels_of: dict[str, set[Label]] = defaultdict(set)
    for ticket in tickets:
        labels_of[ticket.group_id].add(ticket.label)
    split = [[sum(one.label == label for one in alike) for label in LABELS] for alike in _alike(tickets)]
    sizes = [len(ticket.summaries) for ticket in tickets]
    return MissionSurvey(
        mission=name,
        tickets=len(tickets),
        passes=labels["pass"],
        fails=labels["fail"],
        resubmissions=sum(len(found) > 1 for found in labels_of.values()),
        contradictions=sum(passes * fails for passes, fails in split),
        out_of_reach=sum(min(counts) for counts in split),
        irrelevant_only=sum(set(ticket.summaries) == {IRRELEVANT} for ticket in tickets),
        group_median=median(sizes),
        group_max=max(sizes),
    )


def _alike(tickets: Sequence[Ticket]) -> list[list[Ticket]]:
    """The tickets by their summaries, in whatever order these are."""
    found: dict[tuple[str, ...], list[Ticket]] = defaultdict(list)
    for ticket in tickets:
        found[tuple(sorted(ticket.summaries))].append(ticket)
    return list(found.values())


def _pairs(alike: Sequence[Ticket]) -> Iterator[Contradiction]:
    passed, failed = ([ticket for ticket in alike if ticket.label == label] for label in LABELS)
    for one, other in product(passed, failed):
        yield Contradiction(one, other)

"""Which tickets are learned from and which are held out, and as many of each label: pure, by a seed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.stage_b.tickets import Ticket


@dataclass(frozen=True, slots=True)
class Split:
    """Tickets to learn from and tickets that judge what was learned; no group id is in both."""

    train: tuple[Ticket, ...]
    held_out: tuple[Ticket, ...]


def split_tickets(tickets: Sequence[Ticket], *, held_out_fraction: float, seed: int) -> Split:
    """Hold out that share of the group ids, with all tickets of each; both sides keep the given order.

    Ids are drawn evenly over those of the same missions and labels, so that shares of missions and
    labels are kept to within one id. A mission with two ids or more has some on both sides wherever the
    move of one id allows that. Which ids are drawn depends on the seed, and not on the tickets' order.
    InputError where a side would be empty; ValueError for a fraction that is not between 0 and 1.
    """
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction must be between 0 and 1, not {held_out_fraction}")
    missions: dict[str, set[str]] = defaultdict(set)
    for ticket in tickets:
        missions[ticket.group_id].add(ticket.mission)
    drawn = _draw_evenly(_ordered_ids(tickets, seed), held_out_fraction)
    held_out = _on_both_sides(missions, drawn, seed)
    if not 0 < len(held_out) < len(missions):
        raise InputError(
            f"{len(missions)} group ids cannot be split so that {held_out_fraction:g} of them are held out: "
            "one side would be empty; give more files, or set grpo.held_out_fraction nearer to 0.5"
        )
    return Split(
        train=tuple(ticket for ticket in tickets if ticket.group_id not in held_out),
        held_out=tuple(ticket for ticket in tickets if ticket.group_id in held_out),
    )


def _ordered_ids(tickets: Sequence[Ticket], seed: int) -> list[str]:
    """Group ids by their missions, then by their labels there, then by chance."""
    cells: dict[str, set[tuple[str, Label]]] = defaultdict(set)
    for ticket in tickets:
        cells[ticket.group_id].add((ticket.mission, ticket.label))

    def stratum(group_id: str) -> tuple[object, ...]:
        found = cells[group_id]
        return sorted({mission for mission, _ in found}), sorted(found), _chance(group_id, seed)

    return sorted(cells, key=stratum)


def _draw_evenly(ids: Sequence[str], share: float) -> set[str]:
    """That share of the ids, evenly along their order: of any stretch of it to within one."""
    reached = [math.floor(place * share + 0.5) for place in range(len(ids) + 1)]
    return {group_id for place, group_id in enumerate(ids) if reached[place + 1] > reached[place]}


def _on_both_sides(missions: Mapping[str, set[str]], held_out: set[str], seed: int) -> set[str]:
    """The held-out ids, with one moved for each mission that is on one side alone, where one can be."""
    ids_of: dict[str, set[str]] = defaultdict(set)
    for group_id, names in missions.items():
        for name in names:
            ids_of[name].add(group_id)
    moved = set(held_out)
    for name in sorted(ids_of):
        here = ids_of[name] & moved
        if len(ids_of[name]) < 2 or 0 < len(here) < len(ids_of[name]):
            continue
        side = moved if here else set(missions) - moved
        # A move must not take from another mission the last id that it has on this side.
        movable = [
            group_id
            for group_id in ids_of[name]
            if all(len(ids_of[other] & side) > 1 or len(ids_of[other]) == 1 for other in missions[group_id])
        ]
        moved ^= set(sorted(movable, key=lambda group_id: _chance(group_id, seed))[:1])
    return moved


def _chance(group_id: str, seed: int) -> bytes:
    return sha256(f"{seed}/{group_id}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Balanced:
    """Tickets with those of each mission's rarer label repeated, the repeats behind all others.

    `repeats` has how many each mission got; missions of `one_label` have nothing to repeat.
    """

    tickets: tuple[Ticket, ...]
    repeats: Mapping[str, int]
    one_label: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        """What a log should tell."""
        return (
            *(
                f"{mission}: repeats of tickets with the rarer label: {count}"
                for mission, count in self.repeats.items()
                if count
            ),
            *(f"{mission}: all tickets have one label, and stay as they are" for mission in self.one_label),
        )


def balance_tickets(tickets: Sequence[Ticket], *, seed: int) -> Balanced:
    """Repeat tickets of each mission's rarer label until both labels are as many.

    Whole rounds of them, then a sample without repetition for the rest, which depends on the seed
    and not on the tickets' order.
    """
    repeated: list[Ticket] = []
    repeats: dict[str, int] = {}
    one_label: list[str] = []
    for mission in sorted({ticket.mission for ticket in tickets}):
        here = [ticket for ticket in tickets if ticket.mission == mission]
        counts = Counter(ticket.label for ticket in here)
        rarer = min(LABELS, key=lambda label: counts[label])
        if not counts[rarer]:
            one_label.append(mission)
            continue
        scarce = sorted((ticket for ticket in here if ticket.label == rarer), key=lambda one: one.ticket_key)
        rounds, rest = divmod(len(here) - 2 * len(scarce), len(scarce))
        repeated += scarce * rounds + Random(f"{seed}/{mission}").sample(scarce, rest)
        repeats[mission] = rounds * len(scarce) + rest
    return Balanced((*tickets, *repeated), repeats, tuple(one_label))

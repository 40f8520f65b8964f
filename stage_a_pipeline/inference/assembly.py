"""From outcomes per photo to whole groups in discovery order, and the verdict over a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import attrgetter
from typing import Final

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.records import Group, GroupRecord, Outcome, Rejection, Summary

_FORGIVEN_GROUPS: Final = 1
"""One rejected group never fails a run, however small the run is."""


def order_outcomes(groups: Sequence[Group], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes by group and image, whatever order or shard they came from.

    Exactly one outcome per photo of `groups` is an invariant of the shards, and asserted here.
    """
    ordered = sorted(outcomes, key=lambda outcome: (outcome.ref.group_index, outcome.ref.image_index))
    places = [(outcome.ref.group_index, outcome.ref.image_index) for outcome in ordered]
    expected = [(g, i) for g, group in enumerate(groups) for i in range(1, len(group.images) + 1)]
    assert places == expected, f"{len(places)} outcomes for {len(expected)} photos, or not one each"
    return ordered


@dataclass(frozen=True, slots=True)
class MissionOutcomes:
    """The groups of one mission, and the outcomes of their photos, whose places count these groups."""

    groups: tuple[Group, ...]
    outcomes: tuple[Outcome, ...]


def split_by_mission(groups: Sequence[Group], outcomes: Iterable[Outcome]) -> dict[str, MissionOutcomes]:
    """What belongs to each mission, of groups that stand mission by mission and their ordered outcomes."""
    rest = iter(outcomes)
    split = {}
    first = 0
    for mission, own in ((name, tuple(them)) for name, them in groupby(groups, key=attrgetter("mission"))):
        assert mission not in split, "the groups of a mission stand together"
        photos = islice(rest, sum(len(group.images) for group in own))
        split[mission] = MissionOutcomes(own, tuple(counted_from(first, outcome) for outcome in photos))
        first += len(own)
    return split


def counted_from(first: int, outcome: Outcome) -> Outcome:
    """The outcome with its group's place counted from `first`."""
    return replace(outcome, ref=replace(outcome.ref, group_index=outcome.ref.group_index - first))


def clean_outcomes(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Every summary with its clean text; one that cleaning cannot make usable becomes a rejection."""
    return [_clean(outcome) if isinstance(outcome, Summary) else outcome for outcome in outcomes]


def assemble_records(groups: Sequence[Group], outcomes: Iterable[Outcome]) -> list[GroupRecord]:
    """One record per group whose photos all have a clean summary, in discovery order."""
    texts: dict[int, list[str]] = {index: [] for index in range(len(groups))}
    for outcome in outcomes:
        if isinstance(outcome, Summary):
            assert outcome.text, "records are assembled from cleaned summaries"
            texts[outcome.ref.group_index].append(outcome.text)
    return [
        GroupRecord(
            group_id=group.group_id,
            mission=group.mission,
            label=group.label,
            images=tuple(image.name for image in group.images),
            summaries=tuple(texts[index]),
        )
        for index, group in enumerate(groups)
        if len(texts[index]) == len(group.images)
    ]


def rejected_groups(outcomes: Iterable[Outcome]) -> int:
    """How many groups have at least one rejected photo."""
    return len({outcome.ref.group_index for outcome in outcomes if isinstance(outcome, Rejection)})


def check_failure_budget(*, groups: int, rejected: int, max_failed_fraction: float) -> None:
    """Refuse to publish a run that lost too much.

    FailureBudgetError when every group was rejected, or when at least two were and they are more
    than `max_failed_fraction` of all.
    """
    if rejected == groups or (rejected > _FORGIVEN_GROUPS and rejected > max_failed_fraction * groups):
        raise FailureBudgetError(
            f"{rejected} of {groups} groups were rejected; at most {max_failed_fraction:.0%} may be "
            "(inference.max_failed_fraction)"
        )


def _clean(summary: Summary) -> Outcome:
    clean = clean_summary(summary.raw_text)
    reason = defect(clean)
    if reason is None:
        return replace(summary, text=clean.text, flags=clean.flags)
    return Rejection(
        summary.ref,
        "clean",
        reason,
        f"{summary.ref.group.group_id}/{summary.ref.image.name}: the answer is {reason}",
        raw_text=summary.raw_text,
        content_sha256=summary.content_sha256,
        attempts=summary.attempts,
    )

"""Two runs compared, mission by mission."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stage_a_pipeline.jsonl import OutputPaths, read_records
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Label
from stage_a_pipeline.rejected_lines import RejectedLine
from stage_a_pipeline.run_comparison.frequency_shifts import FrequencyShift, ShiftCounter
from stage_a_pipeline.run_comparison.group_changes import GroupChange, GroupPairs, PairedGroup, group_change
from stage_a_pipeline.run_comparison.runs import Run, common_missions, open_run
from stage_a_pipeline.run_comparison.setting_changes import RunChanges, run_changes
from stage_a_pipeline.run_comparison.sides import Delivered, LoneGroup, Notice, PhotoKey, Side


@dataclass(frozen=True, slots=True)
class RejectionChange:
    """A photo that was rejected in one run and not in the other, or for another reason."""

    group_id: str
    label: Label
    image: str
    before: RejectedLine | None
    after: RejectedLine | None


@dataclass(frozen=True, slots=True)
class MissionComparison:
    """What differs in one mission. `groups` and `photos` count what both runs have."""

    mission: str
    before: Delivered
    after: Delivered
    settings: RunChanges | None
    notices: tuple[Notice, ...]
    groups: int
    photos: int
    gained: tuple[LoneGroup, ...]
    lost: tuple[LoneGroup, ...]
    changed: tuple[GroupChange, ...]
    rejections: tuple[RejectionChange, ...]
    frequencies: tuple[FrequencyShift, ...]

    @property
    def is_same(self) -> bool:
        """Whether both runs delivered the same, whatever was set."""
        return not (self.gained or self.lost or self.changed or self.rejections)

    @property
    def summaries_changed(self) -> int:
        """How many of the photos that both runs have got another summary."""
        return sum(len(group.summaries) for group in self.changed)


@dataclass(frozen=True, slots=True)
class RunComparison:
    """All missions compared, sorted, and those that only one of the runs has delivered."""

    before: Place
    after: Place
    missions: tuple[MissionComparison, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether every compared mission is the same in both runs; missions of one run count as compared."""
        return not (self.only_before or self.only_after) and all(one.is_same for one in self.missions)


def compare_runs(before: Place, after: Place, *, missions: Sequence[str] = ()) -> RunComparison:
    """What changed from one run to the other, over the named missions, or all that both have delivered.

    Memory holds the records of one mission of the run before, and what differs. InputError for a
    run that is not there, has delivered nothing, is given twice, or has no mission in common with the other;
    RecordError with file and line for one that is damaged; StoreError for a store that fails.
    """
    first, second = open_run(before), open_run(after)
    chosen = common_missions(first, second, missions)
    return RunComparison(
        before,
        after,
        tuple(_compare_mission(name, first.missions[name], second.missions[name]) for name in chosen),
        only_before=() if missions else _missing(first, second),
        only_after=() if missions else _missing(second, first),
    )


def _missing(run: Run, other: Run) -> tuple[str, ...]:
    return tuple(name for name in run.missions if name not in other.missions)


def _compare_mission(mission: str, before: OutputPaths, after: OutputPaths) -> MissionComparison:
    sides = Side("before", before), Side("after", after)
    pairs = GroupPairs(read_records(before.jsonl))
    shifts = ShiftCounter()
    groups = photos = 0
    changed = []
    for pair in pairs.pair(read_records(after.jsonl)):
        groups += 1
        photos += _count_pair(pair, sides, shifts)
        if (change := group_change(pair)) is not None:
            changed.append(change)
    for record in pairs.lost:
        shifts.add_group(record.label, ((text, None) for text in record.summaries))
        sides[0].count(record)
    for record in pairs.gained:
        shifts.add_group(record.label, ((None, text) for text in record.summaries))
        sides[1].count(record)
    first, second = sides[0].manifest, sides[1].manifest
    return MissionComparison(
        mission=mission,
        before=sides[0].delivered(),
        after=sides[1].delivered(),
        settings=run_changes(first, second) if first and second else None,
        notices=(*sides[0].notices, *sides[1].notices),
        groups=groups,
        photos=photos,
        gained=tuple(sides[0].absent(record) for record in pairs.gained),
        lost=tuple(sides[1].absent(record) for record in pairs.lost),
        changed=tuple(changed),
        rejections=tuple(_rejection_changes(sides[0].rejected, sides[1].rejected)),
        frequencies=shifts.result(),
    )


def _count_pair(pair: PairedGroup, sides: tuple[Side, Side], shifts: ShiftCounter) -> int:
    """How many photos both runs have of the group."""
    found = [(before, after) for _, before, after in pair.photos()]
    shifts.add_group(pair.after.label, found)
    sides[0].count(pair.before)
    sides[1].count(pair.after)
    return sum(before is not None and after is not None for before, after in found)


def _rejection_changes(
    before: Mapping[PhotoKey, RejectedLine], after: Mapping[PhotoKey, RejectedLine]
) -> Iterator[RejectionChange]:
    """Newly rejected photos and those of another reason, then those that are no longer rejected."""
    for key, line in after.items():
        old = before.get(key)
        if old is None or (old.stage, old.reason) != (line.stage, line.reason):
            yield RejectionChange(*key, old, line)
    for key, line in before.items():
        if key not in after:
            yield RejectionChange(*key, line, None)

"""PURE: the groups of two runs beside each other, and what differs in each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

from stage_a_pipeline.records import GroupRecord, Label
from stage_a_pipeline.run_comparison.content_changes import (
    Difference,
    Piece,
    contents_of,
    differences,
    text_pieces,
)

ChangeKind = Literal["content", "wording", "text"]
"""Other counts; the same counts in other words, order or form; texts of which no counts can be read."""


@dataclass(frozen=True, slots=True)
class SummaryChange:
    """One photo that both runs have, with different summaries. `differences` are those of kind content."""

    image: str
    before: str
    after: str
    differences: tuple[Difference, ...]

    @property
    def kind(self) -> ChangeKind:
        """See ChangeKind."""
        if self.differences:
            return "content"
        content = contents_of(self.before)
        return "wording" if content.categories or content.values else "text"

    def pieces(self) -> tuple[Piece, ...]:
        """The two texts with their differences; worked out when asked, which takes about a millisecond."""
        return text_pieces(self.before, self.after)


@dataclass(frozen=True, slots=True)
class PairedGroup:
    """One group of both runs. Photos are paired by name."""

    before: GroupRecord
    after: GroupRecord

    def photos(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Name and both summaries of each photo, in the order of the run after, then those that are gone.

        None for a summary that one run does not have. Of photos with one name, the nth is the nth.
        """
        left = dict(_numbered(self.before))
        for key, summary in _numbered(self.after):
            yield key[0], left.pop(key, None), summary
        for key, summary in left.items():
            yield key[0], summary, None


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What differs in a group of both runs. Fail reasons are None where a record has none at all."""

    group_id: str
    label_before: Label
    label_after: Label
    photos_gained: tuple[str, ...]
    photos_lost: tuple[str, ...]
    summaries: tuple[SummaryChange, ...]
    fail_reasons_before: tuple[str, ...] | None
    fail_reasons_after: tuple[str, ...] | None

    @property
    def label_changed(self) -> bool:
        """Whether the reviewers' label is another one."""
        return self.label_before != self.label_after

    @property
    def fail_reasons_changed(self) -> bool:
        """Whether the workbook's reasons are others; no workbook and no reason in it are the same."""
        return (self.fail_reasons_before or ()) != (self.fail_reasons_after or ())


_Numbered = tuple[int, GroupRecord]
_number = itemgetter(0)


class GroupPairs:
    """Pairs the groups of two runs; the run before stands in memory, the one after streams.

    A group is found by id and label; of several, the first with the most photos in common. An id that is left
    over with another label is a group whose label changed. After the last pair, `lost` and `gained` hold
    what has no partner.
    """

    def __init__(self, before: Iterable[GroupRecord]) -> None:
        self.lost: list[GroupRecord] = []
        self.gained: list[GroupRecord] = []
        self._waiting: defaultdict[str, list[_Numbered]] = defaultdict(list)
        for number, record in enumerate(before):
            self._waiting[record.group_id].append((number, record))

    def pair(self, after: Iterable[GroupRecord]) -> Iterator[PairedGroup]:
        """The groups of both runs: those of one label in the order of the run after, then the others."""
        others = []
        for record in after:
            partner = self._take(record, same_label=True)
            if partner is None:
                others.append(record)
            else:
                yield PairedGroup(partner, record)
        for record in others:
            partner = self._take(record, same_label=False)
            if partner is None:
                self.gained.append(record)
            else:
                yield PairedGroup(partner, record)
        left = sorted((one for waiting in self._waiting.values() for one in waiting), key=_number)
        self.lost = [record for _, record in left]

    def _take(self, record: GroupRecord, *, same_label: bool) -> GroupRecord | None:
        """The partner of a record, which waits no longer."""
        waiting = self._waiting.get(record.group_id, [])
        names = set(record.images)
        candidates = [one for one in waiting if one[1].label == record.label or not same_label]
        if not candidates:
            return None
        number, best = max(candidates, key=lambda one: (len(names.intersection(one[1].images)), -one[0]))
        waiting[:] = [one for one in waiting if one[0] != number]
        return best


def group_change(pair: PairedGroup) -> GroupChange | None:
    """What differs in a group; None where nothing does. The order of photos is no difference."""
    gained, lost, summaries = [], [], []
    for name, before, after in pair.photos():
        if before is None:
            gained.append(name)
        elif after is None:
            lost.append(name)
        elif before != after:
            summaries.append(SummaryChange(name, before, after, differences(before, after)))
    change = GroupChange(
        pair.after.group_id,
        pair.before.label,
        pair.after.label,
        tuple(gained),
        tuple(lost),
        tuple(summaries),
        pair.before.fail_reasons,
        pair.after.fail_reasons,
    )
    differs = gained or lost or summaries or change.label_changed or change.fail_reasons_changed
    return change if differs else None


def _numbered(record: GroupRecord) -> Iterator[tuple[tuple[str, int], str]]:
    seen: Counter[str] = Counter()
    for name, summary in zip(record.images, record.summaries, strict=True):
        yield (name, seen[name]), summary
        seen[name] += 1

"""What the overview of a report says: counts of groups, photos, rejections, lengths and reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Final, TypeVar

from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.report.frequencies import ValueFrequency, content_of, merge_contents, value_frequencies
from stage_a_pipeline.report.groups import ReportGroup, ReportPhoto
from stage_a_pipeline.summary_content import Content
from stage_a_pipeline.vocabulary import IRRELEVANT

_BARS: Final = 24
"""So many bars, at most, show how long summaries are."""

T = TypeVar("T")

cached_content = lru_cache(maxsize=65_536)(content_of)
"""What a summary says; many photos have the same one, and equal ones share what was read of it."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Groups and photos of one label. Photos are those of delivered groups, `irrelevant` ones among them."""

    delivered: int
    rejected: int
    photos: int
    irrelevant: int


@dataclass(frozen=True, slots=True)
class LostPhotos:
    """Photos, and groups, that were rejected at one stage for one reason."""

    stage: str
    reason: str
    photos: int
    groups: int


@dataclass(frozen=True, slots=True)
class Bar:
    """Summaries of `first` to `last` characters."""

    first: int
    last: int
    summaries: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Characters of the delivered summaries; 99% of them are no longer than `percentile_99`."""

    median: float
    percentile_99: int
    longest: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """All counts of one mission's report; the most frequent rejections and reasons come first.

    The frequencies are those of delivered groups, since it is them that reviewers judge.
    """

    labels: Mapping[Label, LabelCounts]
    lost: tuple[LostPhotos, ...]
    lengths: Lengths | None
    fail_reasons: tuple[tuple[str, int], ...]
    frequencies: tuple[ValueFrequency, ...]


class StatisticsCounter:
    """Counts groups as they pass."""

    def __init__(self) -> None:
        self._groups: Counter[tuple[Label, bool]] = Counter()
        self._photos: Counter[tuple[Label, bool]] = Counter()
        self._lost_photos: Counter[tuple[str, str]] = Counter()
        self._lost_groups: Counter[tuple[str, str]] = Counter()
        self._lengths: Counter[int] = Counter()
        self._fail_reasons: Counter[str] = Counter()
        self._contents: defaultdict[Label, list[Content]] = defaultdict(list)

    def watch(self, groups: Iterable[ReportGroup]) -> Iterator[ReportGroup]:
        """The groups as they are, each counted."""
        for group in groups:
            self._count(group)
            yield group

    def result(self) -> Statistics:
        """The counts so far."""
        lost = (
            LostPhotos(stage, reason, photos, self._lost_groups[stage, reason])
            for (stage, reason), photos in _most_frequent(self._lost_photos)
        )
        return Statistics(
            {label: self._of_label(label) for label in LABELS},
            tuple(lost),
            lengths_of(self._lengths),
            tuple(_most_frequent(self._fail_reasons)),
            value_frequencies({label: self._contents[label] for label in LABELS}),
        )

    def _of_label(self, label: Label) -> LabelCounts:
        photos = [self._photos[label, irrelevant] for irrelevant in (False, True)]
        return LabelCounts(self._groups[label, False], self._groups[label, True], sum(photos), photos[1])

    def _count(self, group: ReportGroup) -> None:
        self._groups[group.label, group.rejected] += 1
        self._fail_reasons.update(group.fail_reasons)
        reasons = {_place(photo) for photo in group.photos if photo.rejection is not None}
        self._lost_groups.update(reasons)
        if not group.rejected:
            self._contents[group.label].append(_said_of(group))
        for photo in group.photos:
            if photo.rejection is not None:
                self._lost_photos[_place(photo)] += 1
            elif photo.summary is not None:
                self._lengths[len(photo.summary)] += 1
                self._photos[group.label, photo.summary == IRRELEVANT] += 1


def lengths_of(counts: Mapping[int, int]) -> Lengths | None:
    """The lengths that are counted, in bars of one width; None where there are none.

    The last bar ends at the longest of the 99%, or holds all that is longer.
    """
    lengths = sorted(Counter(counts).elements())
    if not lengths:
        return None
    percentile = lengths[max(0, -(-99 * len(lengths) // 100) - 1)]
    width = max(1, -(-(percentile + 1) // _BARS))
    counted = Counter(min(length, percentile) // width for length in lengths)
    bars = [Bar(n * width, (n + 1) * width - 1, counted[n]) for n in range(max(counted) + 1)]
    bars[-1] = replace(bars[-1], last=lengths[-1])
    return Lengths(median(lengths), percentile, lengths[-1], tuple(bars))


def _said_of(group: ReportGroup) -> Content:
    return merge_contents(
        cached_content(photo.summary) for photo in group.photos if photo.summary is not None
    )


def _place(photo: ReportPhoto) -> tuple[str, str]:
    assert photo.rejection is not None
    return photo.rejection.stage, photo.rejection.reason


def _most_frequent(counts: Counter[T]) -> list[tuple[T, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))

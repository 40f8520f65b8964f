"""PURE: how often values are named before and after, and which shifts are more than chance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import erfc, gcd, sqrt
from typing import Final

from stage_a_pipeline.records import LABELS, Label
from stage_a_pipeline.report.frequencies import SIGNIFICANCE, Key, adjust, key_order
from stage_a_pipeline.run_comparison.content_changes import contents_of
from stage_a_pipeline.summary_content import is_free

LEAST_SHIFT: Final = 0.01
"""Of photos, or things per photo: what changes less than this is not marked, however sure it is."""
_EXACT_UP_TO: Final = 200
"""Changes up to which the test adds up all ways in which they might have."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many photos of so many."""

    photos: int
    of: int

    @property
    def value(self) -> float | None:
        """None of nothing."""
        return self.photos / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Shift:
    """Photos that name a value, before and after."""

    before: Share
    after: Share

    @property
    def difference(self) -> float | None:
        """The share after less the share before; None where one of them is of nothing."""
        before, after = self.before.value, self.after.value
        return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True)
class FrequencyShift:
    """One category (`value` None) or value. Attributes that take any text have one row, `value` None too.

    `paired` and `by_label` are over the photos that both runs have, by the label after; `came` of these name
    it after and not before, `went` the reverse. `counted` are the sums of what the same photos count.
    `every` is over all photos of each run, and is not tested.
    """

    attribute: str
    value: str | None
    paired: Shift
    by_label: Mapping[Label, Shift]
    came: int
    went: int
    counted: tuple[int, int]
    every: Shift
    p_adjusted: float
    p_adjusted_counted: float

    @property
    def photos_matter(self) -> bool:
        """Whether the photos that name it shifted beyond chance, and by LEAST_SHIFT."""
        return self.p_adjusted < SIGNIFICANCE and abs(self.paired.difference or 0.0) >= LEAST_SHIFT

    @property
    def counts_matter(self) -> bool:
        """Whether what they count shifted beyond chance, and by LEAST_SHIFT per photo."""
        before, after = self.counted
        per_photo = (after - before) / (self.paired.before.of or 1)
        return self.p_adjusted_counted < SIGNIFICANCE and abs(per_photo) >= LEAST_SHIFT

    @property
    def matters(self) -> bool:
        """Whether either did."""
        return self.photos_matter or self.counts_matter


class ShiftCounter:
    """Counts what photos name, group by group; holds no summary."""

    def __init__(self) -> None:
        self._totals: Counter[Label] = Counter()
        self._before: Counter[tuple[Label, Key]] = Counter()
        self._after: Counter[tuple[Label, Key]] = Counter()
        self._came: Counter[Key] = Counter()
        self._went: Counter[Key] = Counter()
        self._counted: tuple[Counter[Key], Counter[Key]] = Counter(), Counter()
        self._named_sizes: defaultdict[Key, Counter[int]] = defaultdict(Counter)
        self._counted_sizes: defaultdict[Key, Counter[int]] = defaultdict(Counter)
        self._alone: tuple[Counter[Key], Counter[Key]] = Counter(), Counter()
        self._alone_totals = [0, 0]

    def add_group(self, label: Label, pairs: Iterable[tuple[str | None, str | None]]) -> None:
        """A group's summaries before and after; None for a photo that one of the runs does not have."""
        named: Counter[Key] = Counter()
        counted: Counter[Key] = Counter()
        for before, after in pairs:
            if before is None or after is None:
                self._add_alone(before, after)
            else:
                self._add_pair(label, before, after, named, counted)
        for sizes, shifted in ((self._named_sizes, named), (self._counted_sizes, counted)):
            for key, difference in shifted.items():
                if difference:
                    sizes[key][abs(difference)] += 1

    def result(self) -> tuple[FrequencyShift, ...]:
        """All values so far, in the vocabulary's order."""
        named = [*self._before, *self._after]
        keys = key_order([key for _, key in named] + [key for counts in self._alone for key in counts])
        p_values = [sign_flip_test(self._named_sizes[key], self._came[key] - self._went[key]) for key in keys]
        before, after = self._counted
        p_values += [sign_flip_test(self._counted_sizes[key], after[key] - before[key]) for key in keys]
        adjusted = adjust(p_values)
        return tuple(
            self._shift(key, adjusted[place], adjusted[place + len(keys)]) for place, key in enumerate(keys)
        )

    def _add_alone(self, *summaries: str | None) -> None:
        for side, summary in enumerate(summaries):
            if summary is not None:
                self._alone_totals[side] += 1
                self._alone[side].update(_key_counts(summary).keys())

    def _add_pair(
        self, label: Label, before: str, after: str, named: Counter[Key], counted: Counter[Key]
    ) -> None:
        first, second = _key_counts(before), _key_counts(after)
        self._totals[label] += 1
        self._before.update((label, key) for key in first)
        self._after.update((label, key) for key in second)
        self._counted[0].update(first)
        self._counted[1].update(second)
        if before == after:
            return
        counted.update(second)
        counted.subtract(first)
        for changed, found, sign in (
            (self._came, second.keys() - first.keys(), 1),
            (self._went, first.keys() - second.keys(), -1),
        ):
            for key in found:
                changed[key] += 1
                named[key] += sign

    def _shift(self, key: Key, p_adjusted: float, p_adjusted_counted: float) -> FrequencyShift:
        by_label = {
            label: Shift(
                Share(self._before[label, key], self._totals[label]),
                Share(self._after[label, key], self._totals[label]),
            )
            for label in LABELS
        }
        paired = Shift(
            _sum([shift.before for shift in by_label.values()]),
            _sum([shift.after for shift in by_label.values()]),
        )
        alone = [Share(self._alone[side][key], self._alone_totals[side]) for side in (0, 1)]
        every = Shift(_sum([paired.before, alone[0]]), _sum([paired.after, alone[1]]))
        return FrequencyShift(
            *key,
            paired=paired,
            by_label=by_label,
            came=self._came[key],
            went=self._went[key],
            counted=(self._counted[0][key], self._counted[1][key]),
            every=every,
            p_adjusted=p_adjusted,
            p_adjusted_counted=p_adjusted_counted,
        )


def sign_flip_test(sizes: Mapping[int, int], difference: int) -> float:
    """The two-sided p-value of a difference that groups add up to, if each went either way by chance.

    `sizes` tells how many groups there are of each size: in a group, photos that came to name a value less
    those that no longer do, or what is counted after less what was before, without its sign; `difference` is
    the sum with signs. Photos of one group resemble one another, so that groups are what chance deals with.
    With one photo in a group this is McNemar's test in its exact form, the sign test (Q. McNemar,
    Psychometrika 12, 1947, 153-157).

    Above `_EXACT_UP_TO` changes the sum is taken to be normal with variance sum(size^2), which is the test of
    Z. Yang, X. Sun and J. W. Hardin (Biometrical Journal 52, 2010, 638-652), with the correction for
    continuity of A. L. Edwards (Psychometrika 13, 1948, 185-187): sums lie two steps of the sizes' divisor
    apart.
    """
    reach = sum(size * groups for size, groups in sizes.items())
    if not difference:
        return 1.0
    if reach > _EXACT_UP_TO:
        variance = sum(size * size * groups for size, groups in sizes.items())
        return erfc((abs(difference) - gcd(*sizes)) / sqrt(2 * variance))
    # probabilities[i] is that of the sum i - reach.
    probabilities = [0.0] * (2 * reach + 1)
    probabilities[reach] = 1.0
    for size, groups in sizes.items():
        for _ in range(groups):
            probabilities = _flip(probabilities, size)
    tail = abs(difference)
    return min(1.0, sum(probabilities[: reach - tail + 1]) + sum(probabilities[reach + tail :]))


def _flip(probabilities: Sequence[float], size: int) -> list[float]:
    """The distribution of a sum after one more group went either way."""
    none = [0.0] * size
    downwards, upwards = [*probabilities[size:], *none], [*none, *probabilities[:-size]]
    return [(down + up) / 2 for down, up in zip(downwards, upwards, strict=True)]


@lru_cache(maxsize=65_536)
def _key_counts(summary: str) -> Mapping[Key, int]:
    """What a summary counts, by what is told together."""
    content = contents_of(summary)
    counts: Counter[Key] = Counter({(category, None): 1 for category in content.categories})
    for (name, value), count in content.values.items():
        counts[name, None if is_free(name) else value] += count
    return counts


def _sum(shares: Sequence[Share]) -> Share:
    return Share(sum(share.photos for share in shares), sum(share.of for share in shares))

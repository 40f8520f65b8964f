"""PURE: how often two sides name a category or a value, and which differences are more than chance.

Sides are, for instance, pass and fail, or a run before and after a change. What is counted is in how many
items a value occurs at all, not how many things in them have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from stage_a_pipeline.summary_content import (
    Content,
    attribute_order,
    category_order,
    is_free,
    read_content,
    value_order,
)
from stage_a_pipeline.vocabulary import IRRELEVANT

SIGNIFICANCE: Final = 0.05
"""The share of false alarms that is put up with among the values that are said to differ."""
LEAST_DIFFERENCE: Final = 0.05
"""In shares: with ten thousand photos, differences far smaller than anybody acts upon are beyond chance."""

Key = tuple[str, str | None]
"""An attribute and its value; a category, or an attribute that takes any text, and None."""


@dataclass(frozen=True, slots=True)
class ValueFrequency:
    """In how many of each side's items a value occurs; `counts` and `totals` are by side, in one order.

    `attribute` is `BBU设备.品牌`, or a category where `value` is None; an attribute that takes any text has
    one row for all of them, with None too. `p_adjusted` is None where a side has no items.
    """

    attribute: str
    value: str | None
    counts: Mapping[str, int]
    totals: Mapping[str, int]
    p_adjusted: float | None

    @property
    def shares(self) -> dict[str, float | None]:
        """The share of each side's items; None for a side without any."""
        return {
            side: count / total if (total := self.totals[side]) else None
            for side, count in self.counts.items()
        }

    @property
    def difference(self) -> float | None:
        """The second side's share less the first's; None where a side has no items."""
        first, second = self.shares.values()
        return None if first is None or second is None else second - first

    @property
    def matters(self) -> bool:
        """Whether the difference is beyond chance and large enough to act upon: see the two constants."""
        return (
            self.p_adjusted is not None
            and self.p_adjusted < SIGNIFICANCE
            and abs(self.difference or 0) >= LEAST_DIFFERENCE
        )


def content_of(summary: str) -> Content:
    """What a summary says, where `无关图片` counts as a category."""
    return Content(frozenset({IRRELEVANT}), {}) if summary == IRRELEVANT else read_content(summary)


def merge_contents(contents: Iterable[Content]) -> Content:
    """What several summaries say together: those of a group, for instance."""
    categories: set[str] = set()
    values: Counter[tuple[str, str]] = Counter()
    for content in contents:
        categories |= content.categories
        values.update(content.values)
    return Content(frozenset(categories), values)


def value_frequencies(items_by_side: Mapping[str, Iterable[Content]]) -> tuple[ValueFrequency, ...]:
    """Every category and value that occurs on one of two sides, in the vocabulary's order.

    Each item is a photo, or a group (`merge_contents`). The test is Fisher's, two-sided, of items that are
    drawn independently. Photos of one group resemble one another: over photos its p-values are somewhat too
    small, over groups they are right. Adjusted by Benjamini and Hochberg over all rows.
    ValueError for other than two sides.
    """
    if len(items_by_side) != 2:
        raise ValueError(f"two sides are compared, not {len(items_by_side)}")
    totals: dict[str, int] = {}
    counts: dict[str, Counter[Key]] = {}
    for side, items in items_by_side.items():
        totals[side], counts[side] = count_items(items)
    keys = key_order(key for counted in counts.values() for key in counted)
    first, second = items_by_side
    p_values = [
        fisher_exact(counts[first][key], totals[first], counts[second][key], totals[second]) for key in keys
    ]
    testable = all(totals.values())
    return tuple(
        ValueFrequency(
            *key,
            counts={side: counted[key] for side, counted in counts.items()},
            totals=totals,
            p_adjusted=p_adjusted if testable else None,
        )
        for key, p_adjusted in zip(keys, adjust(p_values), strict=True)
    )


def count_items(items: Iterable[Content]) -> tuple[int, Counter[Key]]:
    """How many items there are, and how many of them have each key. Holds no item."""
    total = 0
    counted: Counter[Key] = Counter()
    for content in items:
        total += 1
        counted.update(keys_of(content))
    return total, counted


def keys_of(content: Content) -> set[Key]:
    """What is counted of an item: its categories, and its values, where those that are free count as one."""
    found: set[Key] = {(category, None) for category in content.categories}
    found.update((name, None if is_free(name) else value) for name, value in content.values)
    return found


def key_order(keys: Iterable[Key]) -> list[Key]:
    """Each key once: a category before its attributes, all in the vocabulary's order."""
    values: dict[str, set[str | None]] = {}
    for name, value in keys:
        values.setdefault(name, set()).add(value)
    categories = category_order({_category(name) for name in values})
    rank = {category: place for place, category in enumerate(categories)}
    names = sorted(attribute_order(values), key=lambda name: (rank[_category(name)], "." in name))
    return [(name, value) for name in names for value in _values_in_order(name, values[name])]


def fisher_exact(first: int, first_total: int, second: int, second_total: int) -> float:
    """The two-sided p-value of Fisher's exact test of two shares, 1 where a side has no items.

    The sum of the probabilities of all tables with the same margins that are no more probable than this one
    (R. A. Fisher, Statistical Methods for Research Workers; as `fisher.test` of R has it). Probabilities are
    relative to the most probable table's, each from its neighbour's; those below the smallest float are 0.
    """
    drawn = first + second
    least, most = max(0, drawn - second_total), min(drawn, first_total)
    mode = min(max((drawn + 1) * (first_total + 1) // (first_total + second_total + 2), least), most)
    weights = {mode: 1.0}
    for step, end in ((1, most), (-1, least)):
        weight, place = 1.0, mode
        while place != end and weight > 0.0:
            low = min(place, place + step)
            ratio = ((drawn - low) * (first_total - low)) / ((low + 1) * (second_total - drawn + low + 1))
            weight *= ratio if step == 1 else 1 / ratio
            place += step
            weights[place] = weight
    # Tables as probable as this one count, whatever rounding has made of their probability.
    limit = weights.get(first, 0.0) * (1 + 1e-7)
    return min(1.0, sum(weight for weight in weights.values() if weight <= limit) / sum(weights.values()))


def adjust(p_values: Sequence[float]) -> list[float]:
    """P-values such that those below q keep the expected share of false alarms below q, in the order given.

    Y. Benjamini, Y. Hochberg: Controlling the False Discovery Rate, J. R. Stat. Soc. B 57 (1995), 289-300.
    """
    adjusted = [1.0] * len(p_values)
    least = inf
    for rank, place in reversed(
        list(enumerate(sorted(range(len(p_values)), key=p_values.__getitem__), start=1))
    ):
        least = min(least, p_values[place] * len(p_values) / rank)
        adjusted[place] = min(1.0, least)
    return adjusted


def _values_in_order(name: str, values: set[str | None]) -> Iterator[str | None]:
    yield from values & {None}
    yield from value_order(name, [value for value in values if value is not None])


def _category(name: str) -> str:
    return name.partition(".")[0]

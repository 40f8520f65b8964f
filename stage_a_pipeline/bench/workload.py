"""What engines are compared on: groups of photos, and how long each answer is.

Only numbers are drawn here; the photos themselves are rendered in `photo_files`. The same arguments give
the same workload on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final

GROUP_SIZES: Final = {1: 14.0, 2: 26.0, 3: 26.0, 4: 17.0, 5: 9.0, 6: 4.0, 8: 2.6, 12: 1.0, 38: 0.4}
"""Photos per group, and how many groups in a hundred have so many: median 3, mean 3.3."""

LEAST_ANSWER: Final = 8
ANSWER_SPREAD: Final = math.log(200 / 60) / NormalDist().inv_cdf(0.99)
"""Deviation of the logarithm of answer lengths: the 99th percentile is 200 where the median is 60."""
_LONGEST_ANSWER: Final = 256 / 60
"""An answer is at most so many medians long."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PlannedPhoto:
    """One photo: its group, its number there from 1, width and height, and the length of its answer.

    `answer_tokens` is None where the model ends its answers by itself.
    """

    group: int
    number: int
    size: Size
    answer_tokens: int | None


def plan_photos(
    *,
    photos: int | None,
    groups: int | None,
    sizes: Sequence[Size],
    median_answer: float | None,
    seed: int,
) -> tuple[PlannedPhoto, ...]:
    """Photos in groups of 1 to 38, in random sizes, with lognormal answer lengths where a median is given.

    At least one of `photos` and `groups` is given. With both, the groups are filled or thinned until the
    number of photos is right. Raises ValueError for more groups than photos.
    """
    rng = Random(seed)
    counts = _group_sizes(rng, photos, groups)
    places = [
        (group, number) for group, count in enumerate(counts, start=1) for number in range(1, count + 1)
    ]
    lengths: Sequence[int | None] = [None] * len(places)
    if median_answer is not None:
        lengths = answer_lengths(rng, len(places), median=median_answer)
    return tuple(
        PlannedPhoto(group, number, rng.choice(sizes), length)
        for (group, number), length in zip(places, lengths, strict=True)
    )


def answer_lengths(rng: Random, count: int, *, median: float) -> list[int]:
    """Lognormal lengths in tokens, one from each of `count` equally likely ranges, in random order.

    So that a few dozen have the median and the spread of many.
    """
    normal = NormalDist(math.log(median), ANSWER_SPREAD)
    drawn = [math.exp(normal.inv_cdf((place + rng.uniform(0.05, 0.95)) / count)) for place in range(count)]
    rng.shuffle(drawn)
    longest = round(_LONGEST_ANSWER * median)
    return [max(LEAST_ANSWER, min(longest, round(length))) for length in drawn]


def median_of_mean(mean: float) -> float:
    """The median of lognormal answer lengths with that mean."""
    return mean / math.exp(ANSWER_SPREAD**2 / 2)


def _group_sizes(rng: Random, photos: int | None, groups: int | None) -> list[int]:
    assert photos is not None or groups is not None
    if groups is not None:
        counts = [_group_size(rng) for _ in range(groups)]
        return counts if photos is None else _adjusted(rng, counts, photos)
    counts = []
    while (left := (photos or 0) - sum(counts)) > 0:
        counts.append(min(_group_size(rng), left))
    return counts


def _group_size(rng: Random) -> int:
    return rng.choices(list(GROUP_SIZES), list(GROUP_SIZES.values()))[0]


def _adjusted(rng: Random, counts: list[int], photos: int) -> list[int]:
    """Group sizes with that sum: the largest groups lose photos, any group gains some."""
    if len(counts) > photos:
        raise ValueError(f"{photos} photos do not fill {len(counts)} groups; ask for fewer groups")
    while sum(counts) > photos:
        counts[counts.index(max(counts))] -= 1
    while sum(counts) < photos:
        counts[rng.randrange(len(counts))] += 1
    return counts

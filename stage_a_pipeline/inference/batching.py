"""Policy, and nothing else: which photos are dealt to a device, in which order, and which go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stage_a_pipeline.records import Group, ImageRef

BatchingMode = Literal["cross_group", "per_group"]
ShardingMode = Literal["per_group", "per_image"]
BATCHING_MODES: Final[tuple[BatchingMode, ...]] = get_args(BatchingMode)


def may_join(group_index: int, open_group: int | None, *, mode: BatchingMode) -> bool:
    """Whether a photo of that group may be under way together with photos of `open_group`.

    None: nobody is under way.
    """
    return mode == "cross_group" or open_group is None or group_index == open_group


@dataclass(frozen=True, slots=True)
class Load:
    """What requests ask of a device: how many there are, their prompt tokens, their photos' pixels."""

    rows: int = 0
    tokens: int = 0
    pixels: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.rows + other.rows, self.tokens + other.tokens, self.pixels + other.pixels)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be under way at once on a device. None is no limit."""

    rows: int
    tokens: int | None = None
    pixels: int | None = None

    def admits(self, newcomer: Load, under_way: Load) -> bool:
        """Whether a request may join those under way. One above the budget by itself may where nobody is."""
        return not under_way.rows or not self.exceeded_by(under_way + newcomer)

    def exceeded_by(self, load: Load) -> tuple[str, ...]:
        """The limits, by name, that the load is above."""
        limits = {"rows": self.rows, "tokens": self.tokens, "pixels": self.pixels}
        return tuple(
            name for name, limit in limits.items() if limit is not None and getattr(load, name) > limit
        )


def order_by_size(sizes: Sequence[int | None]) -> list[int]:
    """The places of a window's photos in the order in which they are asked: the smallest first.

    Equal ones keep their order, and one of unknown size keeps its place.
    """
    known = [place for place, size in enumerate(sizes) if size is not None]
    smallest_first = iter(sorted(known, key=lambda place: sizes[place] or 0))
    return [place if size is None else next(smallest_first) for place, size in enumerate(sizes)]


def deal_out(groups: Iterable[tuple[int, Group]], *, shards: int, mode: ShardingMode) -> list[list[ImageRef]]:
    """The photos of each shard, in discovery order, every photo in exactly one shard.

    `groups` are (group index, group) in discovery order. `per_group` deals whole groups, shard d
    taking groups d, d+D, ...; `per_image` deals single photos the same way.
    """
    assert shards >= 1
    dealt: list[list[ImageRef]] = [[] for _ in range(shards)]
    photo = 0
    for place, (group_index, group) in enumerate(groups):
        for image_index in range(1, len(group.images) + 1):
            shard = (place if mode == "per_group" else photo) % shards
            dealt[shard].append(ImageRef(group_index, image_index, group))
            photo += 1
    return dealt

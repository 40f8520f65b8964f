"""Policy, and nothing else: which photos are dealt to a device, and which may be under way together."""

from __future__ import annotations

from collections.abc import Iterable
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

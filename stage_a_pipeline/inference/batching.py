"""Policy, and nothing else: which of the waiting photos form the next batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

from stage_a_pipeline.records import Group, ImageRef

BatchingMode = Literal["cross_group", "per_group"]
ShardingMode = Literal["per_group", "per_image"]
BATCHING_MODES: Final[tuple[BatchingMode, ...]] = get_args(BatchingMode)


def next_batch_size(waiting_groups: Sequence[int], *, limit: int, mode: BatchingMode, exhausted: bool) -> int:
    """How many of the first waiting photos form the next batch; 0 means wait for more.

    `waiting_groups` holds the group index of each waiting photo, in order; `limit` is the largest
    batch the device takes; `exhausted` says that no more photos will come.
    """
    assert limit >= 1
    if not waiting_groups:
        return 0
    if mode == "cross_group":
        return min(limit, len(waiting_groups)) if exhausted or len(waiting_groups) >= limit else 0
    first = waiting_groups[0]
    run = next((i for i, group in enumerate(waiting_groups) if group != first), len(waiting_groups))
    group_is_complete = run < len(waiting_groups) or exhausted
    return min(limit, run) if group_is_complete or run >= limit else 0


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

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.inference.batching import BATCHING_MODES, deal_out, next_batch_size
from stage_a_pipeline.records import Group, Image


def make_groups(sizes: list[int]) -> list[Group]:
    return [
        Group(
            "m",
            "pass",
            f"g{n}",
            Path(f"g{n}"),
            tuple(Image(Path(f"{i}.jpg"), f"{i}.jpg") for i in range(size)),
        )
        for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("waiting", "limit", "mode", "exhausted", "expected"),
    [
        ([], 4, "cross_group", True, 0),
        ([0, 0, 1], 4, "cross_group", False, 0),
        ([0, 0, 1], 4, "cross_group", True, 3),
        ([0, 0, 1, 2], 4, "cross_group", False, 4),
        ([0, 0, 1, 2, 2], 4, "cross_group", True, 4),
        ([0, 0], 4, "per_group", False, 0),
        ([0, 0], 4, "per_group", True, 2),
        ([0, 0, 1], 4, "per_group", False, 2),
        ([0, 0, 0, 0, 0], 4, "per_group", False, 4),
        ([0], 1, "per_group", False, 1),
    ],
)
def test_next_batch_size(waiting, limit, mode, exhausted, expected):
    assert next_batch_size(waiting, limit=limit, mode=mode, exhausted=exhausted) == expected


@given(
    sizes=st.lists(st.integers(1, 9), max_size=20),
    limit=st.integers(1, 8),
    mode=st.sampled_from(BATCHING_MODES),
)
def test_every_photo_is_batched_once_in_order_and_within_the_limit(sizes, limit, mode):
    waiting = [group for group, size in enumerate(sizes) for _ in range(size)]
    batches = []
    while size := next_batch_size(waiting, limit=limit, mode=mode, exhausted=True):
        batches.append(waiting[:size])
        waiting = waiting[size:]
    assert [group for batch in batches for group in batch] == [
        group for group, size in enumerate(sizes) for _ in range(size)
    ]
    assert all(len(batch) <= limit for batch in batches)
    if mode == "per_group":
        assert all(len(set(batch)) == 1 for batch in batches)
    else:
        assert all(len(batch) == limit for batch in batches[:-1])


@given(
    sizes=st.lists(st.integers(1, 6), max_size=15),
    shards=st.integers(1, 5),
    mode=st.sampled_from(["per_group", "per_image"]),
)
def test_every_photo_is_dealt_to_exactly_one_shard(sizes, shards, mode):
    dealt = deal_out(enumerate(make_groups(sizes)), shards=shards, mode=mode)
    places = [(ref.group_index, ref.image_index) for shard in dealt for ref in shard]
    assert len(dealt) == shards
    assert sorted(places) == [(g, i) for g, size in enumerate(sizes) for i in range(1, size + 1)]
    assert all(shard == sorted(shard, key=lambda r: (r.group_index, r.image_index)) for shard in dealt)


def test_per_group_deals_group_d_to_shard_d_modulo():
    dealt = deal_out(enumerate(make_groups([2, 1, 1, 3])), shards=2, mode="per_group")
    assert [{ref.group_index for ref in shard} for shard in dealt] == [{0, 2}, {1, 3}]


def test_per_image_deals_photo_d_to_shard_d_modulo():
    dealt = deal_out(enumerate(make_groups([3, 2])), shards=2, mode="per_image")
    assert [[(r.group_index, r.image_index) for r in shard] for shard in dealt] == [
        [(0, 1), (0, 3), (1, 2)],
        [(0, 2), (1, 1)],
    ]

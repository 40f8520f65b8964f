from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.inference.batching import deal_out, may_join
from stage_a_pipeline.records import Group, Image


def make_groups(sizes: list[int]) -> list[Group]:
    return [
        Group(
            "m",
            "pass",
            f"g{n}",
            Path(f"g{n}"),
            tuple(Image(Path(), f"{i}.jpg") for i in range(size)),
        )
        for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("group", "open_group", "mode", "expected"),
    [
        (0, None, "per_group", True),
        (3, 3, "per_group", True),
        (4, 3, "per_group", False),
        (0, None, "cross_group", True),
        (4, 3, "cross_group", True),
    ],
)
def test_who_may_be_under_way_together(group, open_group, mode, expected):
    assert may_join(group, open_group, mode=mode) is expected


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

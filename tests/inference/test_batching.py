from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.inference.batching import Budget, Load, deal_out, may_join, order_by_size
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


@pytest.mark.parametrize(
    ("budget", "under_way", "newcomer", "expected"),
    [
        (Budget(4), Load(3, 900, 900), Load(1, 900, 900), True),
        (Budget(4), Load(4), Load(1), False),
        (Budget(4, tokens=100), Load(1, 60), Load(1, 40), True),
        (Budget(4, tokens=100), Load(1, 60), Load(1, 41), False),
        (Budget(4, pixels=100), Load(1, 0, 60), Load(1, 0, 40), True),
        (Budget(4, pixels=100), Load(1, 0, 60), Load(1, 0, 41), False),
        (Budget(4, tokens=100, pixels=100), Load(1, 60, 60), Load(1, 41, 40), False),
        (Budget(4, tokens=100), Load(), Load(1, 101), True),
        (Budget(4, tokens=100), Load(1, 101), Load(1, 0), False),
        (Budget(1, tokens=1, pixels=1), Load(), Load(1, 2, 2), True),
    ],
)
def test_who_may_join_within_a_budget(budget, under_way, newcomer, expected):
    assert budget.admits(newcomer, under_way) is expected


@pytest.mark.parametrize(
    ("load", "limits"),
    [(Load(1, 10, 20), ()), (Load(1, 11, 20), ("tokens",)), (Load(3, 11, 21), ("rows", "tokens", "pixels"))],
)
def test_limits_that_a_load_is_above_are_named(load, limits):
    assert Budget(2, tokens=10, pixels=20).exceeded_by(load) == limits


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([3, 1, 2], [1, 2, 0]),
        ([5, 5, 5], [0, 1, 2]),
        ([9, None, 3, 5], [2, 1, 3, 0]),
        ([None, None], [0, 1]),
        ([2, None, 1, None], [2, 1, 0, 3]),
    ],
)
def test_the_smallest_go_first_and_unknown_ones_keep_their_place(sizes, expected):
    assert order_by_size(sizes) == expected


@given(st.lists(st.none() | st.integers(0, 5)))
def test_every_photo_of_a_window_is_asked_once_in_a_stable_order_of_size(sizes):
    order = order_by_size(sizes)
    assert sorted(order) == list(range(len(sizes)))
    known = [(sizes[place], place) for place in order if sizes[place] is not None]
    assert known == sorted(known)
    assert all(order[place] == place for place, size in enumerate(sizes) if size is None)

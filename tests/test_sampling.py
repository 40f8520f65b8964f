import random
from pathlib import Path

import pytest

from stage_a_pipeline.errors import ConfigurationError, DiscoveryError
from stage_a_pipeline.records import Group, Image, Label
from stage_a_pipeline.sampling import Sampled, sample_groups


def group(label: Label, number: int) -> Group:
    folder = Path(f"/in/m/{label}/{number}")
    return Group("m", label, str(number), folder, (Image(folder, "1.jpg"),))


GROUPS = tuple(group("fail", n) for n in range(10)) + tuple(group("pass", n) for n in range(20))


def numbers(sampled: Sampled, label: str) -> list[int]:
    return [int(group.group_id) for group in sampled.groups if group.label == label]


@pytest.mark.parametrize("seed", [0, 42, 2**40])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_labels_are_drawn_independently_with_seed_and_seed_plus_one(seed: int, count: int) -> None:
    sampled = sample_groups(GROUPS, pass_count=count, fail_count=count, seed=seed)
    assert numbers(sampled, "pass") == sorted(random.Random(seed).sample(range(20), count))
    assert numbers(sampled, "fail") == sorted(random.Random(seed + 1).sample(range(10), count))


def test_the_default_seed_draws_the_pinned_split() -> None:
    sampled = sample_groups(GROUPS, pass_count=5, fail_count=3)
    assert (numbers(sampled, "pass"), numbers(sampled, "fail")) == ([0, 3, 7, 8, 16], [0, 2, 4])


def test_the_sample_of_one_label_does_not_depend_on_the_other() -> None:
    alone = sample_groups(GROUPS[10:], pass_count=4)
    assert numbers(alone, "pass") == numbers(sample_groups(GROUPS, pass_count=4, fail_count=2), "pass")


def test_discovery_order_is_kept() -> None:
    mixed = tuple(random.Random(3).sample(GROUPS, len(GROUPS)))
    sampled = sample_groups(mixed, pass_count=7, fail_count=5)
    assert list(sampled.groups) == [group for group in mixed if group in set(sampled.groups)]


@pytest.mark.parametrize("count", [None, 20, 21])
def test_none_or_at_least_the_count_keeps_all(count: int | None) -> None:
    assert sample_groups(GROUPS, pass_count=count, fail_count=count).groups == GROUPS


@pytest.mark.parametrize(
    ("pass_count", "fail_count", "counts"),
    [
        (None, None, (20, 20, 10, 10)),
        (0, None, (20, 0, 10, 10)),
        (None, 0, (20, 20, 10, 0)),
        (3, 99, (20, 3, 10, 10)),
        (0, 0, (20, 0, 10, 0)),
    ],
)
def test_stats_count_totals_and_selections(
    pass_count: int | None, fail_count: int | None, counts: tuple[int, int, int, int]
) -> None:
    stats = sample_groups(GROUPS, pass_count=pass_count, fail_count=fail_count).stats
    assert (stats.pass_total, stats.pass_selected, stats.fail_total, stats.fail_selected) == counts
    assert list(stats.to_mapping()) == ["pass_total", "pass_selected", "fail_total", "fail_selected"]
    assert tuple(stats.to_mapping().values()) == counts


@pytest.mark.parametrize("label", ["pass", "fail"])
@pytest.mark.parametrize("groups", [GROUPS, ()])
def test_a_negative_count_is_an_error(label: str, groups: tuple[Group, ...]) -> None:
    with pytest.raises(ConfigurationError, match=rf"sampling\.{label}_count must not be negative, but is -1"):
        sample_groups(groups, **{f"{label}_count": -1})


def test_no_selected_group_is_an_error_with_the_counts() -> None:
    with pytest.raises(
        DiscoveryError, match=r"0 of 20 pass and 0 of 10 fail groups; raise sampling\.pass_count"
    ):
        sample_groups(GROUPS, pass_count=0, fail_count=0).require_groups()
    sample_groups(GROUPS, pass_count=0, fail_count=1).require_groups()


def test_no_groups_are_no_sample() -> None:
    assert sample_groups(()).groups == ()

"""The workload has the field's figures, whatever its size, and is the same for the same seed."""

from random import Random
from statistics import mean, median, quantiles

import pytest

from stage_a_pipeline.bench.workload import answer_lengths, median_of_mean, plan_photos

SIZES = ((256, 416), (416, 256), (448, 448))


def plan(**changes):
    asked = {"photos": None, "groups": None, "sizes": SIZES, "median_answer": 60.0, "seed": 7}
    return plan_photos(**{**asked, **changes})


def group_sizes(photos):
    return [sum(photo.group == group for photo in photos) for group in range(1, photos[-1].group + 1)]


def test_groups_hold_1_to_38_photos_with_median_3_and_mean_3_3():
    sizes = group_sizes(plan(groups=2000))
    assert (min(sizes), max(sizes), median(sizes)) == (1, 38, 3)
    assert 3.1 < mean(sizes) < 3.5


@pytest.mark.parametrize("count", [64, 5000])
def test_answers_have_median_60_and_99th_percentile_200(count):
    lengths = answer_lengths(Random(3), count, median=60)
    assert 58 <= median(lengths) <= 62
    assert 180 <= quantiles(lengths, n=100, method="inclusive")[98] <= 215
    assert min(lengths) >= 8
    assert max(lengths) <= 256


def test_answers_with_a_mean_of_150_have_the_same_spread():
    lengths = answer_lengths(Random(3), 5000, median=median_of_mean(150))
    assert 147 <= mean(lengths) <= 153
    tail = quantiles(lengths, n=100)[98] / median(lengths)
    assert tail == pytest.approx(200 / 60, rel=0.05)


@pytest.mark.parametrize(("photos", "groups"), [(6, 2), (6, 6), (40, 3), (100, 30)])
def test_photos_and_groups_may_both_be_given(photos, groups):
    planned = plan(photos=photos, groups=groups)
    sizes = group_sizes(planned)
    assert (len(planned), len(sizes)) == (photos, groups)
    assert min(sizes) >= 1


def test_exactly_so_many_photos_are_planned_and_numbered_within_their_group():
    planned = plan(photos=37)
    assert len(planned) == 37
    for group in {photo.group for photo in planned}:
        numbers = [photo.number for photo in planned if photo.group == group]
        assert numbers == list(range(1, len(numbers) + 1))


def test_more_groups_than_photos_are_refused():
    with pytest.raises(ValueError, match="3 photos do not fill 4 groups"):
        plan(photos=3, groups=4)


def test_the_seed_alone_decides_and_sizes_are_mixed():
    assert plan(photos=64) == plan(photos=64)
    assert plan(photos=64) != plan(photos=64, seed=8)
    assert {photo.size for photo in plan(photos=64)} == set(SIZES)


def test_without_a_median_the_model_ends_its_answers():
    assert {photo.answer_tokens for photo in plan(photos=9, median_answer=None)} == {None}

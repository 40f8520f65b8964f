"""The intervals, beside what is known of them in closed form."""

import math

import numpy as np
import pytest

from stage_a_pipeline.stage_b.bootstrap import Estimate, Resampled


def resampled(columns, clusters=None, *, samples=2000, seed=1):
    rows = len(next(iter(columns.values())))
    names = [str(number) for number in range(rows)] if clusters is None else clusters
    return Resampled({"all": [1] * rows, **columns}, names, samples=samples, seed=seed)


def share(hits, clusters=None, **settings):
    return resampled({"hits": hits}, clusters, **settings).share("hits", "all")


def test_a_share_of_independent_rows_has_the_interval_of_the_normal_approximation():
    estimate = share([1] * 120 + [0] * 280, samples=20_000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert estimate.value == 0.3
    assert (estimate.low, estimate.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)


def test_a_paired_difference_has_the_interval_of_the_rows_differences():
    before, after = [1] * 200 + [0] * 200, [1] * 180 + [0] * 20 + [1] * 60 + [0] * 140
    found = resampled({"before": before, "after": after}, samples=20_000).difference("before", "after", "all")
    # 20 rows lost and 60 won of 400: the variance of one row's difference is 80/400 - (40/400)^2.
    half = 1.96 * math.sqrt((0.2 - 0.01) / 400)
    assert found.value == 0.1
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.003)


def test_19_of_20_intervals_hold_the_true_share():
    generator = np.random.default_rng(5)
    held = 0
    for seed in range(400):
        estimate = share(generator.random(100) < 0.7, samples=400, seed=seed)
        held += estimate.low <= 0.7 <= estimate.high
    assert 0.91 <= held / 400 <= 0.98


def test_copies_within_a_cluster_make_an_interval_no_narrower():
    hits = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]
    single = share(hits)
    assert share(hits * 4, [str(number) for number in range(10)] * 4) == single
    assert share(hits * 4).high - share(hits * 4).low < 0.6 * (single.high - single.low)


def test_the_order_of_rows_does_not_matter():
    hits, clusters = [1, 0, 0, 1, 1], ["b", "a", "b", "c", "d"]
    assert share(hits[::-1], clusters[::-1]) == share(hits, clusters)


def test_what_a_column_gives_does_not_change_with_the_others():
    hits = [1, 0, 1, 1, 0, 1]
    both = resampled({"hits": hits, "more": [0, 0, 1, 0, 1, 0]})
    assert both.share("hits", "all") == share(hits)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    hits = [1] * 30 + [0] * 41
    assert share(hits, seed=3) == share(hits, seed=3) != share(hits, seed=4)


def test_resamples_without_the_rare_whole_are_left_out():
    rare = resampled({"hits": [1] + [0] * 9, "rare": [1, 1] + [0] * 8}).share("hits", "rare")
    assert rare == Estimate(0.5, 0.0, 1.0)
    assert resampled({"hits": [1] + [0] * 9, "rare": [1] + [0] * 9}).share("hits", "rare") == Estimate(
        1, 1, 1
    )


def test_rows_that_are_all_right_have_an_interval_of_no_width():
    assert share([1, 1, 1]) == Estimate(1.0, 1.0, 1.0)


def test_a_share_of_nothing_is_none():
    empty = resampled({"hits": [0, 0], "none": [0, 0]})
    assert empty.share("hits", "none") is None
    assert empty.difference("hits", "hits", "none") is None
    assert share([]) is None


def test_many_rows_are_drawn_as_few_are(monkeypatch):
    hits = [1, 0, 1, 1, 0, 1, 0]
    whole = share(hits)
    monkeypatch.setattr("stage_a_pipeline.stage_b.bootstrap._CELLS", 50)
    assert share(hits) == whole


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at least 100 samples, not 99"):
        share([1], samples=99)

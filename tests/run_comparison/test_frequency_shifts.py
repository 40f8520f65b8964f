"""Frequencies before and after."""

from itertools import product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.run_comparison.frequency_shifts import Share, ShiftCounter, sign_flip_test
from tests.run_comparison.runs import board

RIGHT, WRONG = board(), board("方向错误")


def shifts(*groups, label="pass"):
    counter = ShiftCounter()
    for group in groups:
        counter.add_group(label, group)
    return {one.value: one for one in counter.result()}


def test_only_photos_of_both_runs_are_paired_and_all_are_counted():
    found = shifts(
        [(RIGHT, WRONG), (RIGHT, RIGHT), ("文字", RIGHT)], [(RIGHT, None), (None, WRONG), (None, WRONG)]
    )
    right = found["方向正确"]
    assert (right.paired.before, right.paired.after) == (Share(2, 3), Share(2, 3))
    assert (right.came, right.went) == (1, 1)
    assert (right.every.before, right.every.after) == (Share(3, 4), Share(2, 5))
    assert found["方向错误"].every.after == Share(3, 5)
    assert (found[None].attribute, found[None].paired.before) == ("挡风板", Share(2, 3))


def test_shares_are_also_told_by_label():
    counter = ShiftCounter()
    counter.add_group("pass", [(RIGHT, WRONG)])
    counter.add_group("fail", [(WRONG, WRONG), (RIGHT, WRONG)])
    (right,) = [one for one in counter.result() if one.value == "方向正确"]
    assert {label: (one.before, one.after) for label, one in right.by_label.items()} == {
        "pass": (Share(1, 1), Share(0, 1)),
        "fail": (Share(1, 2), Share(0, 2)),
    }


def test_a_value_without_paired_photos_has_no_shift():
    found = shifts([(None, RIGHT)])["方向正确"]
    assert (found.paired.difference, found.every.difference) == (None, None)
    assert (found.p_adjusted, found.matters) == (1.0, False)


def test_what_matters_is_both_beyond_chance_and_a_point_of_photos():
    assert shifts(*[[(RIGHT, WRONG)]] * 12)["方向错误"].matters
    assert not shifts(*[[(RIGHT, WRONG)]] * 3)["方向错误"].matters, "three groups may do so by chance"
    rare = shifts(*[[(RIGHT, WRONG)]] * 12, *[[(RIGHT, RIGHT)] * 3] * 1_000)["方向错误"]
    assert rare.p_adjusted < 0.001
    assert not rare.matters, "12 of 3012 photos are less than a point"


def test_counts_may_shift_where_photos_do_not():
    more = shifts(*[[(board(方向正确=1), board(方向正确=2))]] * 12)["方向正确"]
    assert (more.counted, more.came, more.p_adjusted) == ((12, 24), 0, 1.0)
    assert more.matters
    assert not shifts(*[[(board(方向正确=1), board(方向正确=2))]] * 3)["方向正确"].matters


def test_one_photo_that_counts_to_a_million_shifts_nothing():
    wild = shifts([(RIGHT, board(方向正确=999_999))], *[[(RIGHT, RIGHT)]] * 20)["方向正确"]
    assert wild.counted == (21, 1_000_019)
    assert not wild.matters


def test_photos_of_one_group_are_one_piece_of_evidence():
    alone = shifts(*[[(RIGHT, WRONG)]] * 12)["方向错误"]
    together = shifts(*[[(RIGHT, WRONG)] * 4] * 3)["方向错误"]
    assert alone.came == together.came == 12
    assert (alone.matters, together.matters) == (True, False)


@pytest.mark.parametrize(("came", "went"), [(1, 0), (5, 0), (9, 2), (30, 18), (90, 60)])
def test_with_one_photo_in_a_group_the_test_is_the_sign_test(came, went):
    count = came + went
    tail = sum(comb(count, number) for number in range(max(came, went), count + 1))
    assert sign_flip_test({1: count}, came - went) == pytest.approx(min(1.0, 2 * tail / 2**count), rel=1e-9)


@given(st.lists(st.integers(-4, 4).filter(bool), min_size=1, max_size=9))
def test_the_test_adds_up_every_way_in_which_groups_could_have_gone(differences):
    total = abs(sum(differences))
    sums = [
        sum(sign * abs(one) for sign, one in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(abs(one) >= total for one in sums) / len(sums)
    sizes = {size: sum(abs(one) == size for one in differences) for size in set(map(abs, differences))}
    assert sign_flip_test(sizes, sum(differences)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("sizes", "difference"), [({1: 201}, 31), ({1: 150, 2: 20, 3: 10}, 40)])
def test_the_normal_approximation_goes_on_where_the_exact_test_ends(sizes, difference, monkeypatch):
    module = "stage_a_pipeline.run_comparison.frequency_shifts._EXACT_UP_TO"
    approximate = sign_flip_test(sizes, difference)
    monkeypatch.setattr(module, 1_000)
    assert approximate == pytest.approx(sign_flip_test(sizes, difference), rel=0.03)

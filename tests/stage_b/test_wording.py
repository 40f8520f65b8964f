"""Figures as people read them."""

import pytest

from stage_a_pipeline.stage_b.bootstrap import Estimate
from stage_a_pipeline.stage_b.wording import counted, percent, percent_with_interval, points

SHARES = [
    (Estimate(0.625, 0.501, 0.7321), "62.5%", "62.5% (50.1 to 73.2)"),
    (Estimate(1.0, 1.0, 1.0), "100.0%", "100.0% (100.0 to 100.0)"),
    (None, "–", "–"),
]
DIFFERENCES = [
    (Estimate(0.125, -0.031, 0.2084), "+12.5 (-3.1 to +20.8)"),
    (Estimate(-0.0, -0.0004, 0.0), "+0.0 (+0.0 to +0.0)"),
    (None, "–"),
]


@pytest.mark.parametrize(("share", "alone", "with_interval"), SHARES)
def test_shares_are_percentages(share, alone, with_interval):
    assert (percent(share), percent_with_interval(share)) == (alone, with_interval)


@pytest.mark.parametrize(("difference", "written"), DIFFERENCES)
def test_differences_are_points_with_a_sign_and_no_negative_zero(difference, written):
    assert points(difference) == written


def test_one_is_singular():
    assert [counted(count, "ticket") for count in (0, 1, 1200)] == ["0 tickets", "1 ticket", "1,200 tickets"]

from pathlib import Path

import pytest

from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import (
    assemble_records,
    check_failure_budget,
    clean_outcomes,
    order_outcomes,
    rejected_groups,
)
from stage_a_pipeline.records import Group, Image, ImageRef, Rejection, Summary

GROUPS = tuple(
    Group(
        "m",
        "fail",
        name,
        Path(name),
        tuple(Image(Path(name, f"{i}.jpg"), f"{i}.jpg") for i in range(1, size + 1)),
    )
    for name, size in (("a", 2), ("b", 1), ("c", 3))
)


def summary(group, image, text="标签/1"):
    return Summary(ImageRef(group, image, GROUPS[group]), "sha", text, "stop", 1, 1)


def rejection(group, image):
    return Rejection(ImageRef(group, image, GROUPS[group]), "read", "truncated", "…")


ALL = [summary(g, i) for g, group in enumerate(GROUPS) for i in range(1, len(group.images) + 1)]


def test_outcomes_are_ordered_by_place_whatever_shard_they_came_from():
    assert order_outcomes(GROUPS, ALL[::-1]) == ALL
    assert order_outcomes(GROUPS, ALL[1::2] + ALL[::2]) == ALL


@pytest.mark.parametrize("outcomes", [ALL[:-1], [*ALL, ALL[0]], []])
def test_a_missing_or_doubled_outcome_is_never_passed_on(outcomes):
    with pytest.raises(AssertionError):
        order_outcomes(GROUPS, outcomes)


def test_a_rejected_photo_costs_its_group_and_no_other():
    outcomes = clean_outcomes([*ALL[:3], rejection(2, 1), *ALL[4:]])
    assert [record.group_id for record in assemble_records(GROUPS, outcomes)] == ["a", "b"]
    assert rejected_groups(outcomes) == 1


def test_records_keep_image_order_and_discovery_order():
    records = assemble_records(
        GROUPS,
        clean_outcomes(
            [summary(g, i, f"{g}-{i}") for g, i in [(2, 1), (2, 2), (2, 3)]]
            + [summary(0, 1, "0-1"), summary(0, 2, "0-2"), summary(1, 1, "1-1")]
        ),
    )
    assert [record.summaries for record in records] == [("0-1", "0-2"), ("1-1",), ("2-1", "2-2", "2-3")]
    assert list(records[2].per_image) == ["image_1", "image_2", "image_3"]


def test_cleaning_turns_an_unusable_answer_into_a_rejection_that_keeps_its_text():
    (outcome,) = clean_outcomes([summary(1, 1, '{"统计": [{"类别": NaN}]}')])
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.raw_text) == ("clean", '{"统计": [{"类别": NaN}]}')


@pytest.mark.parametrize(
    ("groups", "rejected", "fraction", "passes"),
    [
        (10, 0, 0.1, True),
        (10, 1, 0.0, True),
        (10, 1, 0.1, True),
        (20, 2, 0.1, True),
        (10, 2, 0.1, False),
        (100, 10, 0.1, True),
        (100, 11, 0.1, False),
        (3, 2, 1.0, True),
        (1, 1, 1.0, False),
        (2, 2, 1.0, False),
    ],
)
def test_failure_budget(groups, rejected, fraction, passes):
    if passes:
        check_failure_budget(groups=groups, rejected=rejected, max_failed_fraction=fraction)
    else:
        with pytest.raises(FailureBudgetError, match=f"{rejected} of {groups} groups were rejected"):
            check_failure_budget(groups=groups, rejected=rejected, max_failed_fraction=fraction)

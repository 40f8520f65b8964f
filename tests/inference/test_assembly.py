import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import (
    OutcomeCounts,
    RecordCounts,
    assemble_records,
    check_failure_budget,
    clean_outcomes,
    count_outcomes,
    count_records,
    group_sizes,
    order_outcomes,
)
from stage_a_pipeline.records import Group, Image, ImageRef, Rejection, Summary
from stage_a_pipeline.table_schemas import OUTCOMES
from stage_a_pipeline.tables import (
    groups_to_table,
    of_groups,
    outcomes_from_table,
    outcomes_to_table,
    records_to_table,
)

GROUPS = tuple(
    Group(
        "m",
        "fail",
        name,
        Path(name),
        tuple(Image(Path(name), f"{i}.jpg") for i in range(1, size + 1)),
    )
    for name, size in (("a", 2), ("b", 1), ("c", 3))
)


def summary(group, image, text="标签/1"):
    return Summary(ImageRef(group, image, GROUPS[group]), "sha", text, "stop", 1, 1)


def rejection(group, image):
    return Rejection(ImageRef(group, image, GROUPS[group]), "read", "truncated", "…")


ALL = [summary(g, i) for g, group in enumerate(GROUPS) for i in range(1, len(group.images) + 1)]


TABLE = groups_to_table(GROUPS)
SIZES = group_sizes([TABLE])


def ordered(*shards):
    tables = [outcomes_to_table(outcomes, TABLE) for outcomes in shards]
    batches = list(order_outcomes(tables, SIZES))
    return list(outcomes_from_table(of_groups(pa.Table.from_batches(batches, OUTCOMES), TABLE), TABLE))


@pytest.mark.parametrize(
    "shards", [[ALL], [ALL[::-1]], [ALL[1::2], ALL[::2]], [ALL[3:], [], ALL[:3]], [[one] for one in ALL]]
)
def test_outcomes_are_ordered_by_place_whatever_shard_they_came_from(shards):
    assert ordered(*shards) == ALL


@pytest.mark.parametrize("seed", range(5))
def test_shards_of_many_batches_are_ordered(seed):
    rng = random.Random(seed)
    groups = [replace(GROUPS[0], mission=f"m{n // 3000}", group_id=str(n)) for n in range(6000)]
    refs = [ImageRef(n, i, group) for n, group in enumerate(groups) for i in (1, 2)]
    outcomes = [Rejection(ref, "read", "truncated", "…") for ref in refs]
    table = groups_to_table(groups)
    dealt = [outcomes[shard::3] for shard in range(3)]
    for shard in dealt:
        for first in range(0, len(shard), 50):
            few = shard[first : first + 50]
            shard[first : first + 50] = rng.sample(few, len(few))
    batches = list(order_outcomes([outcomes_to_table(shard, table) for shard in dealt], group_sizes([table])))
    for column, name in enumerate(("group_index", "image_index")):
        places = [place for batch in batches for place in batch.column(column).to_pylist()]
        assert places == [getattr(ref, name) for ref in refs]
    assert all(len(set(batch.column("mission").to_pylist())) == 1 for batch in batches)


@pytest.mark.parametrize("outcomes", [ALL[:-1], [*ALL, ALL[0]], [], ALL[1:], [*ALL[1:], ALL[1]]])
def test_a_missing_or_doubled_outcome_is_never_passed_on(outcomes):
    with pytest.raises(AssertionError):
        ordered(outcomes)


def test_a_photo_that_its_group_does_not_have_is_never_taken_for_another():
    stranger = replace(ALL[2], ref=ImageRef(0, 3, GROUPS[2]))
    with pytest.raises(AssertionError, match="not there"):
        list(order_outcomes([outcomes_to_table([*ALL[:2], stranger, *ALL[3:]], TABLE)], SIZES))


def test_a_rejected_photo_costs_its_group_and_no_other():
    outcomes = list(clean_outcomes([*ALL[:3], rejection(2, 1), *ALL[4:]]))
    assert [record.group_id for record in assemble_records(GROUPS, outcomes)] == ["a", "b"]
    assert count_outcomes(outcomes_to_table(outcomes, TABLE)) == OutcomeCounts(6, 1, 1)


def test_records_keep_image_order_and_discovery_order():
    texts = [replace(one, raw_text=f"{one.ref.group_index}-{one.ref.image_index}") for one in ALL]
    records = list(assemble_records(GROUPS, clean_outcomes(texts)))
    assert [record.summaries for record in records] == [("0-1", "0-2"), ("1-1",), ("2-1", "2-2", "2-3")]
    assert list(records[2].per_image) == ["image_1", "image_2", "image_3"]
    with_reasons = [*records[:2], replace(records[2], fail_reasons=("甲",))]
    assert count_records(records_to_table(with_reasons, TABLE)) == RecordCounts(6, 1)


def test_records_are_not_assembled_from_outcomes_out_of_order():
    with pytest.raises(AssertionError):
        list(assemble_records(GROUPS, clean_outcomes(ALL[::-1])))


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

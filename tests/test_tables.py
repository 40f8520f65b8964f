from dataclasses import replace
from pathlib import Path

import pytest

from stage_a_pipeline.errors import StaleTableError
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Rejection, Summary
from stage_a_pipeline.table_schemas import FAIL_REASONS, GROUPS, OUTCOMES, RECORDS
from stage_a_pipeline.tables import (
    fail_reasons_from_table,
    fail_reasons_to_table,
    groups_from_table,
    groups_to_table,
    outcomes_from_table,
    outcomes_to_table,
    records_from_table,
    records_to_table,
    rejections_from_table,
    require_groups,
    shard_from_table,
    shard_to_table,
    table_metadata,
    with_metadata,
)

FOLDER = Path("/photos/挡风板安装检查/审核通过/g1")
GROUP = Group("挡风板安装检查", "pass", "g1", FOLDER, tuple(Image(FOLDER, n) for n in ("a.jpg", "b.jpg")))
SUMMARY = Summary(ImageRef(0, 1, GROUP), "sha", "raw\ntext", "stop", 120, 7, 2, True, "text", ("repaired",))
REJECTION = Rejection(ImageRef(0, 2, GROUP), "read", "truncated", "b.jpg ends early", None, "sha2", 1)


def test_groups_survive_the_table():
    assert list(groups_from_table(groups_to_table([GROUP]))) == [GROUP]


def test_tables_in_files_hold_the_same(tmp_path):
    groups = groups_to_table([GROUP] * 5000, tmp_path)
    assert list(groups_from_table(groups)) == [GROUP] * 5000
    assert table_metadata(groups) == table_metadata(groups_to_table([GROUP] * 5000))
    outcomes = outcomes_to_table([SUMMARY, REJECTION], groups, tmp_path)
    assert list(outcomes_from_table(outcomes, groups)) == [SUMMARY, REJECTION]
    assert outcomes.schema.equals(OUTCOMES)


def test_outcomes_survive_the_table():
    groups = groups_to_table([GROUP])
    table = outcomes_to_table([SUMMARY, REJECTION], groups)
    assert list(outcomes_from_table(table, groups)) == [SUMMARY, REJECTION]
    assert list(outcomes_from_table(table, groups, status="rejected")) == [REJECTION]
    assert list(rejections_from_table(table, groups)) == [REJECTION]
    assert list(outcomes_from_table(table, groups, status="summarised")) == [SUMMARY]


def test_outcomes_out_of_the_order_of_their_groups_are_never_paired_up():
    groups = groups_to_table([GROUP, GROUP])
    table = outcomes_to_table([replace(SUMMARY, ref=ImageRef(g, 1, GROUP)) for g in (1, 0)], groups)
    with pytest.raises(AssertionError, match="in the order of their groups"):
        list(outcomes_from_table(table, groups))


def test_records_keep_the_difference_between_no_reasons_and_none_known():
    records = [
        GroupRecord("g", "m", "fail", ("a.jpg",), ("无关图片",), reasons)
        for reasons in (None, (), ("甲", "乙"))
    ]
    assert list(records_from_table(records_to_table(records, groups_to_table([GROUP])))) == records


def test_fail_reasons_survive_the_table_sorted_by_ticket():
    reasons = {("b", "m"): ("甲",), ("a", "m"): ("乙", "丙")}
    assert fail_reasons_from_table(fail_reasons_to_table(reasons)) == reasons
    assert fail_reasons_to_table(reasons).column("group_id").to_pylist() == ["a", "b"]


def test_a_shard_names_places_and_carries_its_plan():
    refs = [ImageRef(0, 2, GROUP)]
    table = with_metadata(shard_to_table(refs, groups_to_table([GROUP])), {"device": "cuda:0"})
    assert shard_from_table(table, [GROUP]) == refs
    assert table_metadata(table)["device"] == "cuda:0"


def test_empty_tables_keep_their_columns():
    assert groups_to_table([]).schema.equals(GROUPS)
    assert outcomes_to_table([], groups_to_table([])).schema.equals(OUTCOMES)
    assert records_to_table([], groups_to_table([])).schema.equals(RECORDS)
    assert fail_reasons_to_table({}).schema.equals(FAIL_REASONS)


def test_more_rows_than_a_chunk_keep_their_order():
    groups = [Group("m", "pass", f"g{n}", Path(f"/g{n}"), GROUP.images) for n in range(9000)]
    table = groups_to_table(groups)
    assert table.num_rows == 9000
    assert table.column("group_id").to_pylist() == [group.group_id for group in groups]


@pytest.mark.parametrize(
    "others",
    [
        [replace(GROUP, group_id="g2")],
        [replace(GROUP, label="fail")],
        [replace(GROUP, images=GROUP.images[::-1])],
        [GROUP, GROUP],
        [],
    ],
)
def test_photos_are_never_paired_up_with_other_groups_by_place(others):
    groups, others = groups_to_table([GROUP]), groups_to_table(others)
    with pytest.raises(StaleTableError, match="the sampled groups have changed"):
        outcomes_from_table(outcomes_to_table([SUMMARY, REJECTION], groups), others)
    with pytest.raises(StaleTableError):
        require_groups(shard_to_table([ImageRef(0, 1, GROUP)], groups), others)
    with pytest.raises(StaleTableError):
        require_groups(records_to_table([], groups), others)
    with pytest.raises(StaleTableError):
        require_groups(shard_to_table([], groups, groups), groups)


def test_metadata_is_text_by_name():
    table = with_metadata(fail_reasons_to_table({}), {"discovered": "7"})
    assert table_metadata(table) == {"discovered": "7"}


def test_groups_that_an_older_version_stored_are_refused():
    unmarked = groups_to_table([GROUP]).replace_schema_metadata({})
    with pytest.raises(StaleTableError, match="older version; materialise it"):
        require_groups(records_to_table([], groups_to_table([GROUP])), unmarked)

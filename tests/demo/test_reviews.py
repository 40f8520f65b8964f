"""The reviewers' workbook of a demo tree, read as the pipeline reads it."""

import io
import json
from zipfile import ZipFile

import pytest

from stage_a_pipeline.demo.reviews import FAIL_FLAG, encode_workbook, review_rows
from stage_a_pipeline.demo.tree_plan import plan_tree
from stage_a_pipeline.demo.verdicts import RULES
from stage_a_pipeline.fail_reasons import load_fail_reasons
from tests.demo.conftest import MISSIONS

RULE_REASONS = {fault.reason for rule in RULES.values() for fault in rule.faults}


@pytest.fixture(scope="module")
def plan():
    return plan_tree(MISSIONS, groups=30, seed=1, broken=0)


@pytest.fixture(scope="module")
def reasons(plan, tmp_path_factory):
    path = tmp_path_factory.mktemp("reviews") / "reviews.xlsx"
    path.write_bytes(encode_workbook(review_rows(plan, seed=1)))
    return load_fail_reasons(path)


def test_reasons_are_those_of_the_rule(plan, reasons):
    failed = {(group.ticket.group_id, group.mission.name): group for group in plan if group.label == "fail"}
    matched = 0
    for ticket, texts in reasons.by_ticket.items():
        if ticket in failed:
            told = {part for text in texts for part in text.split("；")}
            assert told == set(failed[ticket].verdict.reasons)
            matched += 1
    assert matched > len(failed) / 2


def test_some_failed_groups_have_no_reason_and_some_reasons_no_group(plan, reasons):
    failed = {(group.ticket.group_id, group.mission.name) for group in plan if group.label == "fail"}
    assert 0 < len(failed - set(reasons.by_ticket)) < 0.3 * len(failed)
    assert 0 < len(set(reasons.by_ticket) - failed) < 0.1 * len(plan)


def test_passed_groups_have_rows_without_a_reason(plan, reasons):
    passed = [group for group in plan if group.label == "pass"]
    assert reasons.dropped_counts() == {"not_a_fail": len(passed)}


def test_reviewers_write_as_they_judged_where_they_erred():
    noisy = plan_tree(MISSIONS[:1], groups=60, seed=1, broken=0, label_noise=0.5)
    rows = {row.group_id: row for row in review_rows(noisy, seed=1)}
    wrong = [group for group in noisy if group.mislabelled and group.ticket.group_id in rows]
    assert {group.label for group in wrong} == {"pass", "fail"}
    for group in wrong:
        row = rows[group.ticket.group_id]
        assert (row.flag == FAIL_FLAG) == (group.label == "fail") == bool(row.reason)
        assert row.reason not in RULE_REASONS


def test_the_same_rows_give_the_same_bytes(plan):
    first, second = (encode_workbook(review_rows(plan, seed=1)) for _ in range(2))
    assert first == second


def test_the_workbook_does_not_tell_when_it_was_written(plan):
    with ZipFile(io.BytesIO(encode_workbook(review_rows(plan, seed=1)))) as parts:
        assert b"2024-12-31T12:00:00Z" in parts.read("docProps/core.xml")
        assert {part.date_time[0] for part in parts.infolist()} == {1980}


def test_the_workbook_of_a_tree_agrees_with_its_truth(tree):
    labels = {}
    for line in map(json.loads, tree.truth.read_text("utf-8").splitlines()):
        labels.setdefault((line["group_id"], line["mission"]), set()).add(line["label"])
    known = [ticket for ticket in load_fail_reasons(tree.workbook).by_ticket if ticket in labels]
    assert known
    assert all("fail" in labels[ticket] for ticket in known)

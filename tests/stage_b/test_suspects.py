"""Tickets whose label may be wrong."""

import json

import pytest

from stage_a_pipeline.stage_b.suspects import find_suspects
from tests.stage_b.judged import FAIL, MISSION, OTHER, PASS, answers, ticket, tickets


def test_only_the_other_label_accuses():
    suspects = find_suspects(tickets("pppff"), answers("pf?fp"))
    assert [(one.label, one.said, one.reason, one.place) for one in suspects.listed] == [
        ("pass", "fail", "螺丝松动", "a.jsonl, line 2"),
        ("fail", "pass", "符合", "a.jsonl, line 5"),
    ]


def test_suspects_are_sorted_and_resubmissions_marked():
    found = [
        ticket("b", "pass"),
        ticket("b", "pass", mission=OTHER),
        ticket("a", "pass", line=9),
        ticket("a", "fail", line=3),
    ]
    suspects = find_suspects(found, [FAIL, FAIL, FAIL, PASS])
    assert [(one.mission, one.group_id, one.label, one.resubmitted) for one in suspects.listed] == [
        (OTHER, "b", "pass", False),
        (MISSION, "a", "fail", True),
        (MISSION, "a", "pass", True),
        (MISSION, "b", "pass", False),
    ]


def test_all_are_counted_and_some_listed():
    found = [*tickets("pppp"), *tickets("f", mission=OTHER)]
    suspects = find_suspects(found, answers("fffpp"), listed=2)
    assert (suspects.count, suspects.per_mission) == (4, {OTHER: 1, MISSION: 3})
    assert len(suspects.listed) == 2
    mapping = suspects.to_mapping()
    assert json.loads(json.dumps(mapping)) == mapping
    assert mapping["tickets"] == 4
    assert mapping["listed"][0]["group_id"] == f"{OTHER}-1"


def test_answers_of_another_number_than_tickets_are_refused():
    with pytest.raises(ValueError, match="0 answers to 1 tickets"):
        find_suspects(tickets("p"), [])

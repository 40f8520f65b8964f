"""What is told of tickets before training."""

import json
from pathlib import Path

import pytest

from stage_a_pipeline.stage_b.survey import survey_tickets
from tests.stage_b.conftest import BBU, RRU, ticket


def only_mission(*tickets):
    (mission,) = survey_tickets(tickets).missions
    return mission


def test_labels_sizes_and_resubmissions_are_counted_per_mission():
    survey = survey_tickets(
        [
            ticket("1", "fail", "甲", "乙"),
            ticket("1", "pass", "丙"),
            ticket("2", "pass", "丁", "戊", "己", "庚"),
            ticket("1", "fail", "甲", mission=RRU),
        ]
    )
    rru, bbu = survey.missions
    assert (rru.mission, bbu.mission) == (RRU, BBU)
    assert (bbu.tickets, bbu.passes, bbu.fails, bbu.resubmissions) == (3, 2, 1, 1)
    assert (bbu.group_median, bbu.group_max) == (2, 4)
    assert bbu.rarer_share == pytest.approx(1 / 3)
    assert (rru.resubmissions, rru.rarer_share) == (0, 0.0)
    assert survey.tickets == 4


@pytest.mark.parametrize(
    ("tickets", "pairs", "out_of_reach"),
    [
        ([("pass", "甲"), ("fail", "乙")], 0, 0),
        ([("pass", "甲"), ("fail", "甲")], 1, 1),
        ([("pass", "甲", "乙"), ("fail", "乙", "甲")], 1, 1),
        ([("pass", "甲", "甲"), ("fail", "甲")], 0, 0),
        ([("pass", "甲"), ("pass", "甲"), ("fail", "甲"), ("fail", "乙")], 2, 1),
        ([("pass", "甲"), ("pass", "甲"), ("fail", "甲"), ("fail", "甲"), ("fail", "甲")], 6, 2),
    ],
)
def test_the_same_summaries_with_opposite_labels_are_out_of_reach(tickets, pairs, out_of_reach):
    made = [ticket(str(number), label, *rest) for number, (label, *rest) in enumerate(tickets)]
    mission = only_mission(*made)
    assert (mission.contradictions, mission.out_of_reach) == (pairs, out_of_reach)
    assert mission.best_accuracy == pytest.approx(1 - out_of_reach / len(tickets))
    assert survey_tickets(made).best_accuracy == mission.best_accuracy


def test_missions_do_not_contradict_each_other_and_share_the_best_accuracy():
    survey = survey_tickets(
        [
            ticket("1", "pass"),
            ticket("2", "fail"),
            ticket("1", "fail", mission=RRU),
            ticket("2", "fail", mission=RRU),
        ]
    )
    assert [mission.best_accuracy for mission in survey.missions] == [1.0, 0.5]
    assert survey.best_accuracy == 0.75


def test_the_first_twenty_contradictions_are_listed_and_all_counted():
    tickets = [ticket(f"p{number}", "pass", number=number) for number in range(5)]
    tickets += [ticket(f"f{number}", "fail", number=10 + number) for number in range(5)]
    survey = survey_tickets(tickets)
    assert survey.missions[0].contradictions == 25
    assert len(survey.contradictions) == 20
    assert survey.contradictions[1].to_mapping() == {
        "mission": BBU,
        "passed": "p0::pass",
        "passed_at": "a.jsonl, line 0",
        "failed": "f1::fail",
        "failed_at": "a.jsonl, line 11",
    }
    assert survey.sentences()[-1] == "and 5 more pairs of opposite labels"


@pytest.mark.parametrize(
    ("summaries", "count"), [(["无关图片", "无关图片"], 1), (["无关图片", "甲"], 0), (["无关图片。"], 0)]
)
def test_tickets_without_any_relevant_photo_are_counted(summaries, count):
    assert only_mission(ticket("1", "fail", *summaries)).irrelevant_only == count


def test_people_are_told_what_deserves_a_look():
    survey = survey_tickets(
        [
            ticket("1", "fail", "无关图片", number=1),
            ticket("1", "pass", "无关图片", number=2),
            ticket("2", "pass", number=3),
            ticket("1", "fail", mission=RRU),
        ]
    )
    assert survey.sentences() == (
        f"{RRU}: tickets 1 (pass 0, fail 1; the rarer 0.0%), photos per ticket 1 in the median, 1 at most",
        f"{RRU}: one label only; nothing tells pass from fail here",
        f"{BBU}: tickets 3 (pass 2, fail 1; the rarer 33.3%), photos per ticket 1 in the median, 1 at most",
        f"{BBU}: group ids with both labels (resubmissions): 1",
        f"{BBU}: pairs of tickets with the same summaries and opposite labels: 1; "
        "no rule over summaries is right on more than 66.7%",
        f"{BBU}: tickets whose photos are all 无关图片: 2",
        f"{BBU}: the same summaries passed as 1 (a.jsonl, line 2) and failed as 1 (a.jsonl, line 1)",
    )


def test_a_survey_is_plain_json_data():
    survey = survey_tickets([ticket("1", "fail"), ticket("2", "pass")])
    told = json.loads(json.dumps(survey.to_mapping()))
    assert (told["tickets"], told["best_accuracy"]) == (2, 0.5)
    assert told["missions"] == [
        {
            "mission": BBU,
            "tickets": 2,
            "passes": 1,
            "fails": 1,
            "resubmissions": 0,
            "contradictions": 1,
            "out_of_reach": 1,
            "irrelevant_only": 0,
            "group_median": 1,
            "group_max": 1,
            "rarer_share": 0.5,
            "best_accuracy": 0.5,
        }
    ]
    assert told["contradictions"] == [survey.contradictions[0].to_mapping()]
    assert survey.contradictions[0].passed.source == Path("a.jsonl")


def test_no_tickets_are_an_empty_survey():
    survey = survey_tickets([])
    assert (survey.missions, survey.tickets, survey.best_accuracy, survey.sentences()) == ((), 0, 1.0, ())

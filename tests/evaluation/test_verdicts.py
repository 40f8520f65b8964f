"""Verdicts on groups: which groups are judged, and the shares."""

import json
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.evaluation.scores import compare_answer
from stage_a_pipeline.evaluation.truth import match_truth, read_sidecar
from stage_a_pipeline.evaluation.verdicts import (
    VerdictScores,
    list_tickets,
    score_verdicts,
)
from tests.conftest import MISSION, write_groups
from tests.evaluation.conftest import MISSIONS, wire


@pytest.fixture
def tree(tmp_path):
    return write_groups(tmp_path, MISSION, {"fail": [2, 1], "pass": [1]})


def truth_of(tree, lines):
    path = tree / "truth.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    groups = discover_groups(tree, MISSION).groups
    return match_truth(MISSIONS[MISSION], groups, read_sidecar(path))


def lines_of(tree, **of_first):
    found = []
    for group in discover_groups(tree, MISSION).groups:
        for image in group.images:
            path = image.path.relative_to(tree).as_posix()
            found.append({"path": path, "summary": wire(整齐=1), **(of_first if not found else {})})
    return found


def readings_of(truth, answers=None, rejected=()):
    return [
        compare_answer(
            known.summary,
            "" if known.path in rejected else (answers or {}).get(known.path, known.summary),
            mission=truth.mission,
            path=known.path,
            rejected="read: empty" if known.path in rejected else None,
        )
        for known in truth.truths.values()
    ]


def tickets_of(truth, readings):
    return list_tickets(truth, readings, source=Path("truth.jsonl"))


def test_groups_whose_photos_all_have_a_truth_are_judged(tree):
    lines = lines_of(tree)
    lines[1]["summary"] = None
    truth = truth_of(tree, lines)
    tickets = tickets_of(truth, readings_of(truth))
    assert [ticket.verdict for ticket in tickets] == ["fail", "pass"]


def test_the_verdict_is_the_sidecar_s_then_its_label_then_the_folder_s(tree):
    for given, expected in (
        ({}, "fail"),
        ({"label": "pass"}, "pass"),
        ({"label": "pass", "verdict": "fail"}, "fail"),
        ({"verdict": "pass"}, "pass"),
    ):
        truth = truth_of(tree, lines_of(tree, **given))
        assert tickets_of(truth, readings_of(truth))[0].verdict == expected


def test_lines_of_one_group_that_disagree_are_named(tree):
    lines = lines_of(tree, verdict="pass")
    lines[1]["verdict"] = "fail"
    truth = truth_of(tree, lines)
    with pytest.raises(RecordError, match=r"truth\.jsonl, line 2: verdict: 'fail' of .* on line 1"):
        tickets_of(truth, readings_of(truth))


def test_each_prompt_is_asked_once_and_the_shares_are_of_groups(tree):
    lines = lines_of(tree)
    truth = truth_of(tree, lines)
    wrong, lost = lines[0]["path"], lines[3]["path"]
    readings = readings_of(truth, answers={wrong: wire(散乱=1)}, rejected=[lost])
    asked = []

    def answer(prompts):
        asked.extend(prompts)
        return ["不成形" if "散乱" in prompt.user else "不通过\n理由: 乱" for prompt in prompts]

    verdicts = score_verdicts(tickets_of(truth, readings), answer)
    # Three groups; the first two differ in their number of photos, and the last is lost by its answers.
    assert len(asked) == len(set(asked)) == 3
    assert verdicts.total == VerdictScores(3, 4 / 5, 2 / 3, 1 / 3)
    assert verdicts.per_mission == {MISSION: verdicts.total}
    assert verdicts.to_mapping()["per_mission"][MISSION]["groups"] == 3


def test_without_groups_there_are_no_shares():
    verdicts = score_verdicts([], lambda prompts: [])
    assert verdicts.total == VerdictScores(0, None, None, None)

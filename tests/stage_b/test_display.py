"""What a terminal shows of Stage-B's evaluation, whatever the answers hold."""

from rich.console import Console

from stage_a_pipeline.stage_b.display import sentences, tables
from stage_a_pipeline.stage_b.scores import compare_answers
from stage_a_pipeline.stage_b.summary_quality import PhotoAnswers, compare_summaries
from stage_a_pipeline.stage_b.suspects import find_suspects
from tests.stage_b.judged import MISSION, OTHER, answers, compare, ticket, tickets

NOBODY = find_suspects([], [])


def shown(comparison):
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        for table in tables(comparison):
            console.print(table)
    return [line.split() for line in captured.get().splitlines()]


def test_the_total_is_told_with_intervals_and_difference():
    lines = shown(compare("pp", "ff", "pp"))
    assert ["2", "tickets,", "2", "groups", "before", "after", "difference"] in lines
    place = lines.index(["accuracy", "0.0%", "100.0%", "+100.0"])
    assert " ".join(lines[place + 1]) == "(0.0 to 0.0) (100.0 to 100.0) (+100.0 to +100.0)"
    assert ["false", "pass", "–", "–", "–"] in lines


def test_missions_are_told_before_and_after_within_80_columns():
    found = [*tickets("pf"), *tickets("pppf", mission=OTHER)]
    lines = shown(compare_answers(found, answers("pp?fff"), answers("pfpfpf"), samples=100, seed=1))
    rows = {line[0]: (line, after) for line, after in zip(lines, [*lines[1:], []], strict=True) if line}
    assert rows[MISSION] == (
        [MISSION, "2", "50.0%", "100.0%", "100.0%", "0.0%"],
        ["→", "100.0%", "→", "100.0%", "→", "0.0%", "→", "0.0%"],
    )
    assert rows[OTHER][0] == [OTHER, "4", "25.0%", "75.0%", "0.0%", "66.7%"]
    assert rows["total"][0] == ["total", "6", "33.3%", "83.3%", "50.0%", "50.0%"]
    assert rows["total"][1] == ["→", "83.3%", "→", "100.0%", "→", "0.0%", "→", "25.0%"]


def test_suspects_are_counted_and_the_first_are_told():
    found = [ticket("a", "pass"), ticket("a", "fail"), *tickets("ppppppp")]
    told = sentences(find_suspects(found, answers("ffppfffff")), None)
    assert told[0] == f"labels worth a second look, judged the other way: 6 (6 {MISSION})"
    assert told[1] == f"  {MISSION} a: 通过, said 不通过, resubmitted: 螺丝松动"
    assert len(told) == 7
    assert told[-1] == "  and 1 more, in the document of the evaluation"


def test_stage_a_is_told_where_photos_were_summarised():
    photos = [
        PhotoAnswers("g", "1.jpg", "无关图片", "无关图片", "无关图片"),
        PhotoAnswers("h", "2.jpg", "无关图片", ""),
    ]
    told = sentences(NOBODY, compare_summaries(photos, samples=100, seed=1))
    assert told == [
        "Stage-A with the adapter, 2 photos: 50.0% (0.0 to 100.0) answered the same, 1 otherwise, "
        "attribute keys of the former answers kept 50.0% (0.0 to 100.0)",
        "against the truth of 1 photo: exact 100.0% → 100.0%, +0.0 (+0.0 to +0.0) points; "
        "attribute keys 100.0% → 100.0%, +0.0 (+0.0 to +0.0) points",
    ]


def test_what_was_not_looked_at_is_not_told():
    assert sentences(NOBODY, None) == []
    assert sentences(NOBODY, compare_summaries([], samples=100, seed=1)) == []


def test_a_reason_cannot_steer_the_terminal():
    told = sentences(find_suspects([ticket("a")], ["不通过\n理由: \x1b]0;owned\x07坏"]), None)
    assert "\x1b" not in "".join(told)
    assert told[-1].endswith("owned\ufffd坏")

"""The pictures: well-formed, within their size, and safe whatever the names are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from stage_a_pipeline.stage_b.accuracy_picture import accuracy_picture
from stage_a_pipeline.stage_b.axes import round_ticks, written
from stage_a_pipeline.stage_b.confusion_picture import confusion_picture
from stage_a_pipeline.stage_b.metrics_file import StepMetrics
from stage_a_pipeline.stage_b.reward_picture import reward_picture
from stage_a_pipeline.stage_b.scores import compare_answers
from stage_a_pipeline.svg import text_width
from tests.stage_b.judged import MISSION, OTHER, answers, compare, tickets

SVG = "{http://www.w3.org/2000/svg}"
WIDTH = 1100
HOSTILE = '</text><script>alert(1)</script>&"\x0b\ud800'


def parsed(svg):
    root = ElementTree.fromstring(svg.encode())
    assert root.get("width") == str(WIDTH)
    assert not list(root.iter(f"{SVG}script"))
    return root


def texts(svg):
    return [element.text for element in parsed(svg).iter(f"{SVG}text")]


def hints(svg):
    return [element.text for element in parsed(svg).iter(f"{SVG}title")]


def assert_texts_fit(svg):
    """No text that is not moved with a panel leaves the picture."""
    root = parsed(svg)
    inner = {text for panel in root.iter(f"{SVG}g") if panel.get("role") for text in panel.iter(f"{SVG}text")}
    for text in set(root.iter(f"{SVG}text")) - inner:
        x, width = float(text.get("x")), text_width(text.text, float(text.get("font-size")))
        start = {"start": x, "middle": x - width / 2, "end": x - width}[text.get("text-anchor")]
        assert start >= 0, text.text
        assert start + width <= WIDTH, text.text
        assert 0 < float(text.get("y")) < float(root.get("height")), text.text


def steps(count, *, names=("label", "format")):
    return [
        StepMetrics(step, 1.4 * step / count, dict.fromkeys(names, step / count), {})
        for step in range(1, count + 1)
    ]


def curves(svg):
    return [
        [tuple(map(float, point.split(","))) for point in element.get("points").split()]
        for element in parsed(svg).iter(f"{SVG}polyline")
    ]


def test_rewards_are_told_with_what_they_began_and_ended_with():
    shown = texts(reward_picture(steps(10)))
    assert {"label 0.10 → 1.00", "format 0.10 → 1.00", "total 0.14 → 1.40", "step"} <= set(shown)
    assert "10 steps, the last is 10." in shown
    assert {"0.0", "1.4", "1", "10"} <= set(shown)


def test_a_reward_is_drawn_between_the_ends_of_both_axes():
    *_, total = curves(reward_picture(steps(10)))
    (left, low), (right, high) = total[0], total[-1]
    assert len(total) == 10
    assert (left, right, high) == (62, 1072, 104)
    assert low == pytest.approx(484 - 0.1 * (484 - 104), abs=0.1)


def test_many_steps_are_drawn_faint_and_smoothed_in_few_points():
    noisy = [StepMetrics(step, step % 2, {}, {}) for step in range(1, 4001)]
    svg = reward_picture(noisy)
    raw, smooth = curves(svg)
    assert len(raw) == len(smooth) == 572
    spread = [max(y for _, y in one) - min(y for _, y in one) for one in (raw, smooth)]
    assert spread[1] < spread[0] / 3
    assert (
        "4,000 steps, the last is 4,000. Faint: means of 7 steps; strong: running mean over 203 steps."
        in texts(svg)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 39, 41, 601])
def test_any_number_of_steps_fits_the_picture(count):
    svg = reward_picture(steps(count))
    assert_texts_fit(svg)
    points = [point for one in curves(svg) for point in one]
    points += [(float(dot.get("cx")), float(dot.get("cy"))) for dot in parsed(svg).iter(f"{SVG}circle")]
    assert len(points) >= 3
    assert all(62 <= x <= 1072 and 104 <= y <= 484 for x, y in points)


def test_rewards_below_zero_and_above_one_stay_within_the_axes():
    svg = reward_picture([StepMetrics(step, step / 10 - 2, {"label": -7.3}, {}) for step in range(60)])
    assert all(104 <= y <= 484 for one in curves(svg) for _, y in one)


def test_a_component_that_some_steps_lack_is_drawn_through_the_others():
    metrics = [StepMetrics(step, 1, {"label": 1.0} if step % 2 else {}, {}) for step in range(1, 6)]
    label, total = curves(reward_picture(metrics))
    assert (len(label), len(total)) == (3, 5)


def test_a_training_that_has_just_begun_says_so():
    assert "no step has been finished yet" in texts(reward_picture([]))


def test_a_rewards_name_is_escaped_and_shortened():
    svg = reward_picture(steps(3, names=(HOSTILE, "很长的名字" * 30)))
    assert any("<script>" in hint for hint in hints(svg))
    assert_texts_fit(svg)


def test_confusions_stand_side_by_side_with_counts_and_shares_of_their_row():
    svg = confusion_picture(compare("ppppff", "ppf?fp", "ppppff").total, title="任务")
    panels = [panel.get("aria-label") for panel in parsed(svg).iter(f"{SVG}g") if panel.get("role")]
    assert panels == ["before training", "after training"]
    assert hints(svg) == [
        "通过 said to be 通过: 2 of 4",
        "通过 said to be 不通过: 1 of 4",
        "通过 said to be unreadable: 1 of 4",
        "不通过 said to be 通过: 1 of 2",
        "不通过 said to be 不通过: 1 of 2",
        "不通过 said to be unreadable: 0 of 2",
        "通过 said to be 通过: 4 of 4",
        "通过 said to be 不通过: 0 of 4",
        "通过 said to be unreadable: 0 of 4",
        "不通过 said to be 通过: 0 of 2",
        "不通过 said to be 不通过: 2 of 2",
        "不通过 said to be unreadable: 0 of 2",
    ]
    shown = texts(svg)
    assert {"任务", "25.0%", "100.0%", "4 tickets", "2 tickets"} <= set(shown)
    assert any(text.startswith("accuracy 100.0% (100.0 to 100.0)  ·  format") for text in shown)


def test_a_label_without_tickets_has_dashes_for_its_cells():
    shown = texts(confusion_picture(compare("pp", "pf", "pp").total, title="任务"))
    assert shown.count("–") == 6
    assert shown.count("0 tickets") == 2
    assert any(text.startswith("false pass –") for text in shown)


def test_a_title_is_escaped_and_shortened():
    assert_texts_fit(confusion_picture(compare("", "", "").total, title=HOSTILE * 40))


def many_missions(count):
    names = [f"{number:02}任务名称" * 9 for number in range(count)]
    found = [one for name in names for one in tickets("pfpfpfpf", mission=name)]
    return compare_answers(
        found, answers("ffffffff" * count), answers("pfpfpfpf" * count), samples=100, seed=1
    )


def test_missions_stand_below_the_total_the_weakest_first():
    found = [*tickets("ppff"), *tickets("pppp", mission=OTHER)]
    comparison = compare_answers(found, answers("ffffffff"), answers("ffffpppf"), samples=100, seed=1)
    assert list(comparison.per_mission) == [OTHER, MISSION]
    shown = texts(accuracy_picture(comparison))
    assert [text for text in shown if text in ("total", MISSION, OTHER)] == ["total", MISSION, OTHER]
    assert {"8 tickets, 8 groups", "0.0% → 75.0%", "50.0% → 50.0%", "25.0% → 62.5%"} <= set(shown)
    assert any(re.fullmatch(r"\+75\.0 \(\+\d+\.\d to \+100\.0\)", text) for text in shown)


def test_a_mission_may_be_called_total():
    shown = texts(accuracy_picture(compare("pf", "pf", "pf", mission="total")))
    assert shown.count("total") == 2


def test_a_dot_stands_where_its_accuracy_is_on_the_axis():
    svg = accuracy_picture(compare("p" * 40, "p" * 36 + "ffff", "p" * 40))
    places = [float(dot.get("cx")) for dot in parsed(svg).iter(f"{SVG}circle")][2:4]
    ticks = {text.text: float(text.get("x")) for text in parsed(svg).iter(f"{SVG}text")}
    assert places[1] == ticks["100%"]
    low = min(int(name[:-1]) for name in ticks if re.fullmatch(r"\d+%", name))
    start, end = ticks[f"{low}%"], ticks["100%"]
    assert low >= 60
    assert (start, end) == (284, 752)
    assert places[0] == pytest.approx(start + (90 - low) / (100 - low) * (end - start), abs=0.1)


@pytest.mark.parametrize("count", [1, 20])
def test_many_missions_with_long_names_fit_the_picture(count):
    svg = accuracy_picture(many_missions(count))
    assert_texts_fit(svg)
    names = [text for text in texts(svg) if "任务名称" in text]
    assert len(names) == count
    assert all(name.endswith("…") and 20 + text_width(name, 13) < 284 for name in names)
    bars = [(float(bar.get("x")), float(bar.get("width"))) for bar in parsed(svg).iter(f"{SVG}rect")]
    assert all(x >= 0 and width >= 0 and x + width <= WIDTH for x, width in bars)


def test_accuracies_of_nothing_say_so():
    assert "no ticket was held out" in texts(accuracy_picture(compare("", "", "")))


def test_a_missions_name_is_escaped():
    assert any(
        "<script>" in hint for hint in hints(accuracy_picture(compare("p", "p", "p", mission=HOSTILE)))
    )


TICKS = [
    (0.0, 1.0, 7, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    (0.0, 1.4, 7, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "1.4"]),
    (-0.5, 1.0, 3, ["-0.5", "0.0", "0.5", "1.0"]),
    (1, 12, 12, [str(number) for number in range(1, 13)]),
    (1, 4000, 4, ["1,000", "2,000", "3,000", "4,000"]),
    (5, 5, 7, ["5"]),
    (0.0, 0.03, 3, ["0.00", "0.01", "0.02", "0.03"]),
]


@pytest.mark.parametrize(("low", "high", "most", "expected"), TICKS)
def test_ticks_are_round_numbers(low, high, most, expected):
    assert written(round_ticks(low, high, most)) == expected

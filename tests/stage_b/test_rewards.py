"""The rewards: the tables of docs/stage-b-rewards.md, what is refused, and what holds for any text."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.demo.groups import compose_group, draw_group_size
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts.verdict import verdict_answer
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.claim_words import ATTRIBUTES
from stage_a_pipeline.stage_b.rewards import (
    VERDICT_REWARDS,
    attribute_key_recall,
    combine_rewards,
    consistency_reward,
    format_reward,
    label_reward,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "stage-b-rewards.md").read_text("utf-8")


def rows(name: str) -> list[list[str]]:
    """The cells of the documented table behind the mark `name`."""
    behind = DOCUMENT.partition(f"<!-- {name} -->")[2].lstrip()
    table = re.match(r"(?:\|.*\n)+", behind)
    assert table, name
    # A bar within code is no border.
    cells = [re.findall(r"(?<=\| )(`[^`]+`|[^|`]+)(?= \|)", line) for line in table[0].splitlines()]
    return [[cell.strip("` ") for cell in line] for line in cells[2:]]


def groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(DOCUMENT.partition("<!-- groups -->")[2].split("```")[1][4:])
    return found


GROUPS = groups()


def test_the_document_has_its_tables():
    counts = [len(rows(name)) for name in ("label", "format", "consistency", "recall")]
    assert counts == [10, 16, 48, 15]


@pytest.mark.parametrize(("answer", "label", "reward"), rows("label"))
def test_label_as_documented(answer, label, reward):
    assert label_reward([json.loads(answer)], group_label=[json.loads(label)]) == [float(reward)]


@pytest.mark.parametrize(("answer", "reward"), rows("format"))
def test_format_as_documented(answer, reward):
    assert format_reward([json.loads(answer)]) == [float(reward)]


@pytest.mark.parametrize(("group", "reason", "score", "_because"), rows("consistency"))
def test_consistency_as_documented(group, reason, score, _because):
    answers = [f"不通过\n理由: {reason}", f"不通过\r\n理由：{reason}\n", f"不通过\n{reason}"]
    scores = consistency_reward(answers, stage_a_summaries=[GROUPS[group]] * 3)
    assert scores == pytest.approx([float(score)] * 3, abs=1e-4)


@pytest.mark.parametrize(("completion", "reference", "reward"), rows("recall"))
def test_recall_as_documented(completion, reference, reward):
    assert attribute_key_recall([completion], reference=[reference]) == [float(reward)]


@pytest.mark.parametrize("label", [None, 1, "pass", "通过 ", "", ["通过"]])
def test_a_label_that_is_no_verdict_earns_nothing(label):
    assert label_reward(["通过\n理由: 好"], group_label=[label]) == [0.0]


@pytest.mark.parametrize("reference", [None, 1, {}, "", "[]", '{"统计": {}}', "[" * 100_000])
def test_an_unusable_reference_earns_nothing(reference):
    assert attribute_key_recall(['{"统计": []}', "无关图片"], reference=[reference] * 2) == [0.0, 0.0]


def test_a_header_may_stand_on_a_line_of_its_own():
    summary = '{"统计": [{"类别": "电线", "捆扎": {}}]}'
    for header in ("<DOMAIN=BBU>, <TASK=SUMMARY>\n", " <DOMAIN=BBU>，<TASK=SUMMARY>\r\n"):
        assert attribute_key_recall([header + summary], reference=[summary]) == [1.0]
        assert attribute_key_recall([header + "无关图片"], reference=[header + "无关图片"]) == [1.0]


NEEDED = [
    (label_reward, "group_label", "通过"),
    (consistency_reward, "stage_a_summaries", ["无关图片"]),
    (attribute_key_recall, "reference", "无关图片"),
]


@pytest.mark.parametrize(("reward", "column", "entry"), NEEDED)
def test_columns_are_as_long_as_the_completions(reward, column, entry):
    with pytest.raises(ValueError, match=f"column {column} is missing"):
        reward(["通过"])
    with pytest.raises(ValueError, match=f"column {column} has 1 rows for 2 completions"):
        reward(["通过", "通过"], **{column: [entry]})
    with pytest.raises(ValueError, match=f"column {column} is of type str"):
        reward(["通过", "通过"], **{column: "通过"})
    assert reward([], **{column: []}) == []


@pytest.mark.parametrize("reward", [*VERDICT_REWARDS.values(), attribute_key_recall])
@pytest.mark.parametrize("wrong", [None, [{"role": "assistant", "content": "通过"}]])
def test_completions_are_strings(reward, wrong):
    columns = {"group_label": ["通过"] * 2, "stage_a_summaries": [[]] * 2, "reference": ["无关图片"] * 2}
    with pytest.raises(ValueError, match=r"completions\[1\] is .*, not a string"):
        reward(["通过", wrong], **columns)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (None, "is None"),
        ("无关图片", "is of type str"),
        ([1], "image 1, is of type int"),
        ({"image_1": 1}, "image 1, is of type int"),
        ({"图片_1": "无关图片"}, "the key '图片_1'"),
        ({"image_0": "无关图片"}, "the key 'image_0'"),
    ],
)
def test_summaries_of_another_kind_are_named(entry, told):
    with pytest.raises(ValueError, match=rf"stage_a_summaries\[1\].*{told}"):
        consistency_reward(["通过"] * 2, stage_a_summaries=[[], entry])


def test_a_mapping_of_images_is_a_list_of_summaries():
    answers = ["不通过\n理由: image_2中电线整齐", "不通过\n理由: 图片4中电线整齐"]
    mapping = {f"image_{number}": text for number, text in enumerate(GROUPS["screws"], start=1)}
    mapping["image_4"] = None
    for group in (mapping, [*GROUPS["screws"], None]):
        assert consistency_reward(answers, stage_a_summaries=[group] * 2) == [1.0, 0.0]


def test_other_columns_are_ignored():
    columns = {
        "group_label": ["通过"],
        "stage_a_summaries": [["无关图片"]],
        "prompts": ["..."],
        "trainer_state": object(),
    }
    assert {name: reward(["通过\n理由: 好"], **columns) for name, reward in VERDICT_REWARDS.items()} == {
        "label": [1.0],
        "format": [1.0],
        "consistency": [0.5],
    }


def test_combined_is_the_weighted_sum():
    assert combine_rewards([[1.0, 0.0], [1.0, 1.0], [0.5, 1.0]], [1.0, 0.2, 0.2]) == pytest.approx([1.3, 0.4])
    assert combine_rewards([[], []], [1.0, 1.0]) == []


def test_there_is_one_weight_per_reward():
    with pytest.raises(ValueError, match="2 weights for 3 rewards; give one weight per reward"):
        combine_rewards([[1.0]] * 3, [1.0, 0.2])
    with pytest.raises(ValueError, match=r"rewards of \[1, 2\] completions"):
        combine_rewards([[1.0], [1.0, 0.0]], [1.0, 0.2])


def test_training_s_rewards_are_in_the_order_of_their_weights():
    assert list(VERDICT_REWARDS) == ["label", "format", "consistency"]
    assert len(VERDICT_REWARDS) == len(GrpoSettings().reward_weights)


@pytest.mark.parametrize("mission", load_missions().values(), ids=lambda mission: mission.name)
def test_true_verdicts_earn_everything(mission):
    """What the built-in rules say of invented groups, and the opposite label, which must not."""
    rng = Random(7)
    for wanted in ("pass", "fail") * 20:
        group = compose_group(rng, mission, wanted=wanted, size=draw_group_size(rng))
        columns = {
            "group_label": ["通过" if group.verdict.label == "pass" else "不通过"],
            "stage_a_summaries": [[scene.summary for scene in group.scenes]],
        }
        answer = verdict_answer(group.verdict.label, group.verdict.reasons)
        earned = {name: reward([answer], **columns) for name, reward in VERDICT_REWARDS.items()}
        assert earned == {"label": [1.0], "format": [1.0], "consistency": [1.0]}, answer


WORDS = [
    *ATTRIBUTES,
    *(name for attributes in ATTRIBUTES.values() for name in attributes),
    *(
        value
        for attributes in ATTRIBUTES.values()
        for values in attributes.values()
        for value in sorted(values)
    ),
    *"，；、。\n：（）和",
    *("未拍到", "没有", "未安装", "需安装", "均", "是否", "无", "不", "要求", "<4cm", "无异常", "螺丝"),
    *("image_1", "图片2", "图3", "image_", "第1张照片", "image_77", "99", "理由:", "通过\n"),
]
REASONS = st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
SUMMARIES = st.lists(
    st.one_of(REASONS, st.sampled_from([text for group in GROUPS.values() for text in group])), max_size=4
)


def consistency(reason: str, summaries: list[str]) -> float:
    (score,) = consistency_reward([f"通过\n理由:{reason}"], stage_a_summaries=[summaries])
    return score


@given(st.lists(st.tuples(REASONS, REASONS, SUMMARIES), max_size=3))
def test_any_text_earns_from_nothing_to_one(batch):
    texts = [text for text, _, _ in batch]
    columns = {
        "group_label": ["通过" for _ in batch],
        "stage_a_summaries": [summaries for _, _, summaries in batch],
        "reference": [reference for _, reference, _ in batch],
    }
    for reward in (*VERDICT_REWARDS.values(), attribute_key_recall):
        scores = reward(texts, **columns)
        assert len(scores) == len(texts)
        assert all(type(score) is float and 0.0 <= score <= 1.0 for score in scores)
        assert scores == reward(texts, **columns)


@given(
    REASONS, SUMMARIES, st.sampled_from(["{0}；image_99", "{0}（图片99）", "image_99：{0}", "image_99；{0}"])
)
def test_an_invented_image_never_raises_consistency(reason, summaries, form):
    assert consistency(form.format(reason), summaries) <= consistency(reason, summaries)


@given(REASONS, SUMMARIES, st.sampled_from(["；", "。", "\n"]))
def test_a_reason_said_again_earns_the_same(reason, summaries, mark):
    assert consistency(f"{reason}{mark}{reason}", summaries) == consistency(reason, summaries)


@given(REASONS, SUMMARIES)
def test_a_contradicted_claim_keeps_the_score_at_that_of_silence(reason, summaries):
    assert consistency(f"{reason}；image_99", summaries) <= 0.5


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "通过\n理由:",
            " ",
            "\u3000",
            "\n",
            "a\n\n",
            "\r",
            "理由",
            "无关图片",
            "{",
            '{"统计": [',
            "<DOMAIN=",
            "9",
        ),
        *(
            "image_1",
            "image_1、",
            "image_1，",
            "挡风板、",
            "不符合",
            "BBU设备散乱",
            "未拍到",
            "未拍到、",
            "，",
            "；",
        ),
        *("BBU设备、不符合，", "无", "有无", "均", "半径"),
    ],
)
def test_a_hundred_kilobytes_of_anything_take_no_time(unit):
    images = "".join(f"image_{number}、" for number in range(5_000))
    text = f"通过\n理由:{images}电线{unit * (100_000 // len(unit.encode()))}"
    columns = {"group_label": ["通过"], "stage_a_summaries": [[text]], "reference": [text]}
    started = time.process_time()
    for reward in (*VERDICT_REWARDS.values(), attribute_key_recall):
        reward([text], **columns)
    # Linear takes up to a second here; quadratic would take minutes.
    assert time.process_time() - started < 10

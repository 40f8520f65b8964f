from pathlib import Path

import pytest

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import (
    BRIEF_PROFILE,
    Prompt,
    build_prompt,
    prompt_hash,
    verdict_answer,
    verdict_prompt,
)
from stage_a_pipeline.vocabulary import IRRELEVANT, VOCABULARY

MISSIONS = load_missions()
BBU, RRU = MISSIONS["挡风板安装检查"], MISSIONS["RRU线缆"]

OWN_TEXTS = """
[summary_runtime.system]
task = "task"
not_on_site = "rule"
[summary_runtime.user]
instruction = "instruction"
focus = "{mission}: {focus}"
[summary_runtime.user.scene]
bbu = "bbu scene"
rru = "rru scene"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prompts.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", MISSIONS)
def test_a_prompt_holds_the_rule_the_scene_of_its_dataset_and_the_focus(name: str) -> None:
    mission = MISSIONS[name]
    prompt = build_prompt(mission)
    assert IRRELEVANT in prompt.system
    assert mission.name in prompt.user
    assert mission.focus in prompt.user
    other = "rru" if mission.dataset == "bbu" else "bbu"
    for category in VOCABULARY[mission.dataset]:
        assert category.name in prompt.user
    foreign = {category.name for category in VOCABULARY[other]} - {
        category.name for category in VOCABULARY[mission.dataset]
    }
    assert not [name for name in foreign if f"、{name}" in prompt.user or f"有{name}" in prompt.user]


def test_texts_stand_in_their_order(tmp_path: Path) -> None:
    prompt = build_prompt(RRU, prompts_file=write(tmp_path, OWN_TEXTS))
    assert prompt.system == "task\nrule"
    assert prompt.user == f"instruction\nrru scene\n{RRU.name}: {RRU.focus}"


def test_every_text_and_mission_changes_the_hash(tmp_path: Path) -> None:
    texts = [
        OWN_TEXTS.replace(f'"{word}"', f'"{word}!"')
        for word in ("none", "task", "rule", "instruction", "bbu scene")
    ]
    hashes = [prompt_hash(build_prompt(BBU, prompts_file=write(tmp_path, text))) for text in texts]
    assert len(set(hashes)) == len(texts)
    assert prompt_hash(build_prompt(BBU)) != prompt_hash(build_prompt(MISSIONS["BBU接地线检查"]))
    assert prompt_hash(Prompt("a", "bc")) != prompt_hash(Prompt("ab", "c"))


def test_another_profile_of_the_file_can_be_chosen(tmp_path: Path) -> None:
    path = write(
        tmp_path, OWN_TEXTS + OWN_TEXTS.replace("summary_runtime", "brief").replace('"task"', '"short"')
    )
    assert build_prompt(BBU, profile="brief", prompts_file=path).system == "short\nrule"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OWN_TEXTS.replace('bbu = "bbu scene"', ""), "summary_runtime.user.scene.bbu is missing"),
        (OWN_TEXTS.replace('task = "task"', ""), "summary_runtime.system.task is missing"),
        (OWN_TEXTS.replace('"task"', '" "'), "summary_runtime.system.task must be text that is not blank"),
        (OWN_TEXTS.replace('"instruction"', "3"), "summary_runtime.user.instruction must be text"),
        ('summary_runtime = "x"\n', "summary_runtime.system.task is missing"),
        ("", "unknown prompt profile 'summary_runtime'"),
        ("[", "is not valid TOML"),
        *(
            (OWN_TEXTS.replace("{mission}:", field), "may hold only {mission} and {focus} in braces")
            for field in (
                "{name}",
                "{0}",
                "{}",
                "{",
                "{mission.name}",
                "{mission[0][a]}",
                '{\\"统计\\": []}',
                "{mission:d}",
            )
        ),
    ],
)
def test_faulty_texts_are_an_error_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        build_prompt(BBU, prompts_file=path)
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_an_unknown_profile_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match="unknown prompt profile 'x'; known: summary_runtime"):
        build_prompt(BBU, profile="x")


def test_a_missing_prompts_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prompts file .* cannot be read.*prompts\.prompts_file"):
        build_prompt(BBU, prompts_file=tmp_path / "none.toml")


TWO_LINES = "输出两行：第一行写通过或不通过，第二行写理由。"
OWN_VERDICT_TEXTS = """
[verdict.system]
bbu = "judge of bbu"
rru = "judge of rru"
[verdict.user]
task = "task: {mission}: {focus}"
image = "{number}) {summary}"
"""


@pytest.mark.parametrize(("mission", "judge"), [(BBU, "BBU施工质检员"), (RRU, "RRU施工质检员")])
def test_the_verdict_prompt_holds_mission_focus_and_form_and_then_a_line_per_photo(mission, judge):
    prompt = verdict_prompt(mission, ["甲", "乙"])
    assert judge in prompt.system
    assert prompt.system.endswith(TWO_LINES)
    assert prompt.user.splitlines() == [
        f"任务：{mission.name}。检查重点：{mission.focus}。{TWO_LINES}",
        "image_1: 甲",
        "image_2: 乙",
    ]


@pytest.mark.parametrize("mission", [BBU, RRU])
def test_the_brief_verdict_prompt_is_what_the_built_in_checkpoint_was_taught_with(mission):
    assert verdict_prompt(mission, ["甲", "乙"], profile=BRIEF_PROFILE) == Prompt(
        system="你是通信基站施工质检员，根据一组照片的统计摘要判断整组是否通过。输出两行：第一行写通过或不通过，第二行写理由。",
        user=f"任务：{mission.name}。检查重点：{mission.focus}。\nimage_1: 甲\nimage_2: 乙",
    )


def test_braces_in_a_summary_stay_as_they_are():
    summary = '{"统计": [{"类别": "标签"}]} {0} {mission} {{'
    for profile in ("verdict", BRIEF_PROFILE):
        assert verdict_prompt(BBU, [summary], profile=profile).user.endswith(f"image_1: {summary}")


def test_own_texts_of_a_verdict_stand_in_their_places(tmp_path):
    path = write(tmp_path, OWN_VERDICT_TEXTS)
    prompt = verdict_prompt(RRU, ["甲"], prompts_file=path)
    assert prompt == Prompt("judge of rru", f"task: {RRU.name}: {RRU.focus}\n1) 甲")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('bbu = "judge of bbu"', "", "verdict.system.bbu is missing"),
        ('"judge of bbu"', '" "', "verdict.system.bbu must be text that is not blank"),
        ('task = "task: {mission}: {focus}"', "", "verdict.user.task is missing"),
        ('"{number}) {summary}"', "3", "verdict.user.image must be text"),
        ("{number})", "", "verdict.user.image must hold {number} and {summary}"),
        ("{summary}", "{{summary}}", "verdict.user.image must hold {number} and {summary}"),
        ("{number})", "{", "verdict.user.image may hold only {number} and {summary} in braces"),
        ("{number})", "{number} {mission}", "verdict.user.image may hold only {number} and {summary}"),
        ("{focus}", "{focus} {}", "verdict.user.task may hold only {mission} and {focus} in braces"),
        ("{focus}", "}", "verdict.user.task may hold only {mission} and {focus} in braces"),
        ("[verdict", "[other", "unknown prompt profile 'verdict'; known: other"),
        ("[verdict.system]", "[", "is not valid TOML"),
    ],
)
def test_faulty_texts_of_a_verdict_are_an_error_that_names_the_place(tmp_path, old, new, told):
    path = write(tmp_path, OWN_VERDICT_TEXTS.replace(old, new))
    with pytest.raises(ConfigurationError) as error:
        verdict_prompt(BBU, ["甲"], prompts_file=path)
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_an_unknown_verdict_profile_or_file_is_an_error_with_what_would_be_right(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown prompt profile 'x'; known: verdict, brief"):
        verdict_prompt(BBU, ["甲"], profile="x")
    with pytest.raises(ConfigurationError, match=r"cannot be read.*correct grpo\.prompts_file or unset it"):
        verdict_prompt(BBU, ["甲"], prompts_file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("label", "reasons", "answer"),
    [
        ("pass", (), "通过\n理由: 检查项均符合"),
        ("fail", ("尾纤无套管", "未拍到尾纤"), "不通过\n理由: 尾纤无套管；未拍到尾纤"),
    ],
)
def test_a_verdict_has_two_lines(label, reasons, answer):
    assert verdict_answer(label, reasons) == answer

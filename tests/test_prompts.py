from pathlib import Path

import pytest

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import Prompt, build_prompt, prompt_hash, verdict_answer, verdict_prompt
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


def test_the_verdict_prompt_names_the_mission_and_numbers_the_summaries():
    mission = load_missions()["RRU线缆"]
    prompt = verdict_prompt(mission, ["甲", "乙"])
    assert prompt.user.splitlines()[1:] == ["image_1: 甲", "image_2: 乙"]
    assert mission.name in prompt.user
    assert mission.focus in prompt.user


@pytest.mark.parametrize(
    ("label", "reasons", "answer"),
    [
        ("pass", (), "通过\n理由: 检查项均符合"),
        ("fail", ("尾纤无套管", "未拍到尾纤"), "不通过\n理由: 尾纤无套管；未拍到尾纤"),
    ],
)
def test_a_verdict_has_two_lines(label, reasons, answer):
    assert verdict_answer(label, reasons) == answer

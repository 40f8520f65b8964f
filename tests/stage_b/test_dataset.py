"""The dataset that a trainer takes."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from stage_a_pipeline.errors import ConfigurationError, InputError
from stage_a_pipeline.prompts import Prompt, verdict_prompt
from stage_a_pipeline.stage_b.dataset import COLUMNS, load_stage_a_for_grpo, tickets_to_dataset
from tests.stage_b.conftest import BBU, MISSIONS, RRU, line, ticket, write_lines

LINES = (
    line(mission=RRU, label="fail", per_image={"图片_2": '{"统计": []}', "图片_1": "无关图片"}),
    line(group_id="QC-0", per_image={"image_1": "甲"}),
)


@pytest.fixture
def path(tmp_path):
    return write_lines(tmp_path / "a.jsonl", *LINES)


def chat(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]


def test_a_ticket_is_a_row_with_its_summaries_prompt_and_verdict(path):
    dataset = load_stage_a_for_grpo([path])
    assert tuple(dataset.column_names) == COLUMNS
    summaries = ["无关图片", '{"统计": []}']
    assert dataset.to_list() == [
        {
            "group_id": "QC-1",
            "task_type": RRU,
            "group_label": "不通过",
            "stage_a_summaries": summaries,
            "prompt": chat(verdict_prompt(MISSIONS[RRU], summaries)),
            "ticket_key": "QC-1::fail",
        },
        {
            "group_id": "QC-0",
            "task_type": BBU,
            "group_label": "通过",
            "stage_a_summaries": ["甲"],
            "prompt": chat(verdict_prompt(MISSIONS[BBU], ["甲"])),
            "ticket_key": "QC-0::pass",
        },
    ]


def test_the_same_files_give_the_same_dataset(path):
    one, other = load_stage_a_for_grpo([path]), load_stage_a_for_grpo([path])
    assert one.to_list() == other.to_list()
    assert one._fingerprint == other._fingerprint


def test_one_path_may_stand_alone_or_as_text(path):
    expected = load_stage_a_for_grpo([path]).to_list()
    for given in (path, str(path), [str(path)], f"file://{path}"):
        assert load_stage_a_for_grpo(given).to_list() == expected


def test_missions_profile_and_texts_can_be_chosen(path, tmp_path):
    own = tmp_path / "prompts.toml"
    own.write_text(
        '[short.system]\nbbu = "b"\nrru = "r"\n[short.user]\ntask = "t"\nimage = "{number}{summary}"\n',
        "utf-8",
    )
    dataset = load_stage_a_for_grpo(path, only=[BBU], profile="short", prompts_file=own)
    assert dataset["prompt"][:] == [chat(Prompt("b", "t\n1甲"))]
    with pytest.raises(ConfigurationError, match="unknown prompt profile 'x'; known: short"):
        load_stage_a_for_grpo(path, profile="x", prompts_file=own)


def test_skipped_lines_are_told_and_nothing_left_is_an_error(tmp_path, caplog):
    path = write_lines(tmp_path / "a.jsonl", *LINES, line(label="x"))
    assert len(load_stage_a_for_grpo(path)) == 2
    assert "skipped 1 of 3 lines: 1 unknown label" in caplog.text
    assert f"{path}, line 3: unknown label" in caplog.text
    with pytest.raises(InputError, match="no ticket can be used"):
        load_stage_a_for_grpo(write_lines(tmp_path / "b.jsonl", "{"))


def test_a_ticket_of_a_mission_that_is_not_in_the_table_is_an_error():
    with pytest.raises(ConfigurationError, match="unknown mission 'x'"):
        tickets_to_dataset([replace(ticket("QC-1"), mission="x")], missions=MISSIONS)


def test_a_dataset_prints_nothing_and_leaves_no_file_behind(path, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    load = (
        "from stage_a_pipeline.stage_b.dataset import load_stage_a_for_grpo as load\n"
        f"found = load({str(path)!r}); assert len(found) == 2 and not found.cache_files"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", load],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []

"""The folder that ms-swift trains from. tests/stage_b/test_swift.py gives it to the real ms-swift."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from transformers import Qwen3VLMoeConfig

from stage_a_pipeline.engines.checkpoint import Checkpoint, resolve_checkpoint
from stage_a_pipeline.errors import CheckpointError, InputError, OutputError
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.architecture import read_architecture
from stage_a_pipeline.stage_b.dataset import tickets_to_dataset
from stage_a_pipeline.stage_b.export_swift import export_swift
from stage_a_pipeline.stage_b.layers import select_last_blocks
from stage_a_pipeline.stage_b.rewards import VERDICT_REWARDS
from stage_a_pipeline.stage_b.swift_script import REWARD_FUNCS, TRL_DEFAULTS, SwiftModel, train_script
from tests.stage_b.conftest import MISSIONS, RRU, ticket

TRAIN = tickets_to_dataset(
    [ticket("QC-1", "pass", "甲", "乙\u2028"), ticket("QC-2", "fail", "丙", mission=RRU)], missions=MISSIONS
)
HELD_OUT = tickets_to_dataset([ticket("QC-3")], missions=MISSIONS)
AWKWARD = "导出 '1' $HOME \"`x`\" #2"
LAYERS = select_last_blocks([f"language_model.layers.{block}.mlp.up_proj" for block in range(6)], 4)
MODEL = SwiftModel(Path("/模型 's/$x"), "qwen3_vl", "bfloat16")


def export(folder: Path, **changes):
    given = {"train": TRAIN, "held_out": HELD_OUT, "settings": GrpoSettings(), "checkpoint": "builtin"}
    return export_swift(folder, **(given | changes))


def arguments(script: Path, tmp_path: Path, *more: str) -> list[str]:
    """What a real shell hands to the program `swift` when it runs the script."""
    program = tmp_path / "swift program"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    run = subprocess.run(
        ["bash", f"{script.parent.name}/{script.name}", *more],
        # With CDPATH, cd says where it went.
        env={**os.environ, "SWIFT": str(program), "CDPATH": str(script.parent.parent)},
        cwd=script.parent.parent,
        capture_output=True,
        check=True,
    )
    return run.stdout.decode().split("\0")[:-1]


def options(words: list[str]) -> dict[str, list[str]]:
    """Values by option; an option that is given twice is none."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            assert word not in found
            found[word] = []
        else:
            found[next(reversed(found))].append(word)
    return found


def script_options(tmp_path: Path, settings: GrpoSettings, model: SwiftModel = MODEL) -> dict[str, list[str]]:
    script = tmp_path / "train.sh"
    script.write_text(train_script(settings, model=model, layers=LAYERS), "utf-8")
    return options(arguments(script, tmp_path)[1:])


def test_the_folder_holds_script_plugin_data_and_a_readme(tmp_path):
    export(tmp_path / "new" / "folder")
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"train.sh", "plugin.py", "train.jsonl", "held_out.jsonl", "README.md"}


def test_what_was_exported_is_told(tmp_path):
    told = export(tmp_path / "a", settings=GrpoSettings(lora_last_k=3))
    assert (told.script, told.train, told.held_out) == (tmp_path / "a" / "train.sh", 2, 1)
    assert (told.layers.blocks, told.layers.depth) == ((1, 2, 3), 4)


@pytest.mark.parametrize(("name", "rows"), [("train.jsonl", TRAIN), ("held_out.jsonl", HELD_OUT)])
def test_a_line_is_the_chat_and_the_columns_that_the_rewards_take(tmp_path, name, rows):
    export(tmp_path / "a")
    # Lines end with LF alone, whatever else a summary holds.
    lines = [json.loads(line) for line in (tmp_path / "a" / name).read_bytes().split(b"\n")[:-1]]
    columns = ("group_id", "task_type", "group_label", "stage_a_summaries", "ticket_key")
    assert lines == [{"messages": row["prompt"]} | {key: row[key] for key in columns} for row in rows]


def test_the_same_export_has_the_same_bytes(tmp_path):
    export(tmp_path / "a")
    export(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_plugin_compiles_and_registers_every_reward_in_the_order_of_the_weights(tmp_path):
    export(tmp_path / "a")
    source = (tmp_path / "a" / "plugin.py").read_text("utf-8")
    compile(source, "plugin.py", "exec")
    assert tuple(f"stage_b_{name}" for name in VERDICT_REWARDS) == REWARD_FUNCS
    assert 'orms[f"stage_b_{_name}"]' in source


def test_the_script_finds_its_files_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / AWKWARD
    words = arguments(export(folder).script, tmp_path)
    found = options(words[1:])
    assert words[0] == "rlhf"
    assert found["--dataset"] == [f"{folder}/train.jsonl"]
    assert found["--external_plugins"] == [f"{folder}/plugin.py"]
    assert found["--output_dir"] == [f"{folder}/output"]
    assert found["--model"] == [str(resolve_checkpoint("builtin").folder)]


def test_arguments_of_ones_own_come_last(tmp_path):
    words = arguments(export(tmp_path / "a").script, tmp_path, "--seed", "1 2")
    assert words[-2:] == ["--seed", "1 2"]


def test_a_checkpoint_in_a_folder_of_any_name_is_one_word(tmp_path):
    assert script_options(tmp_path, GrpoSettings())["--model"] == ["/模型 's/$x"]


DEFAULTS = {
    "--rlhf_type": ["grpo"],
    "--model_type": ["qwen3_vl"],
    "--tuner_type": ["lora"],
    "--target_regex": [LAYERS.target_regex],
    "--freeze_vit": ["true"],
    "--freeze_aligner": ["true"],
    "--lora_rank": ["8"],
    "--lora_alpha": ["16"],
    "--lora_dropout": ["0.05"],
    "--reward_funcs": ["stage_b_label", "stage_b_format", "stage_b_consistency"],
    "--reward_weights": ["1.0", "0.2", "0.2"],
    "--num_generations": ["4"],
    "--per_device_train_batch_size": ["4"],
    "--gradient_accumulation_steps": ["4"],
    "--learning_rate": ["5e-06"],
    "--warmup_steps": ["100"],
    "--num_train_epochs": ["3.0"],
    "--max_completion_length": ["128"],
    "--temperature": ["0.7"],
    "--top_p": ["0.9"],
    "--beta": ["0.0"],
    "--seed": ["42"],
    "--data_seed": ["42"],
    "--save_steps": ["25"],
    "--report_to": ["tensorboard"],
    "--torch_dtype": ["bfloat16"],
    "--bf16": ["true"],
    "--fp16": ["false"],
    "--truncation_strategy": ["delete"],
}


def test_the_settings_are_what_the_script_asks_for(tmp_path):
    found = script_options(tmp_path, GrpoSettings())
    assert {name: found.get(name) for name in DEFAULTS} == DEFAULTS
    assert "--max_steps" not in found
    assert "--use_vllm" not in found


CHANGES = {
    "seed": (7, {"--seed": ["7"], "--data_seed": ["7"]}),
    "lora_rank": (4, {"--lora_rank": ["4"]}),
    "lora_alpha": (64, {"--lora_alpha": ["64"]}),
    "lora_dropout": (0.0, {"--lora_dropout": ["0.0"]}),
    "num_generations": (8, {"--num_generations": ["8"], "--per_device_train_batch_size": ["8"]}),
    "prompts_per_step": (3, {"--per_device_train_batch_size": ["12"]}),
    "gradient_accumulation": (2, {"--gradient_accumulation_steps": ["2"]}),
    "learning_rate": (1e-4, {"--learning_rate": ["0.0001"]}),
    "epochs": (1.5, {"--num_train_epochs": ["1.5"]}),
    "max_steps": (9, {"--max_steps": ["9"], "--num_train_epochs": None}),
    "warmup_steps": (0, {"--warmup_steps": ["0"]}),
    "max_new_tokens": (64, {"--max_completion_length": ["64"]}),
    "temperature": (1.0, {"--temperature": ["1.0"]}),
    "top_p": (1.0, {"--top_p": ["1.0"]}),
    "kl_weight": (0.04, {"--beta": ["0.04"]}),
    "reward_weights": ((1.0, 0.0, 0.5), {"--reward_weights": ["1.0", "0.0", "0.5"]}),
    "save_steps": (5, {"--save_steps": ["5"]}),
    "trackers": ((), {"--report_to": ["none"]}),
    "rollouts": ("vllm_colocate", {"--use_vllm": ["true"], "--vllm_mode": ["colocate"]}),
}
ELSEWHERE = {
    *("files", "missions", "profile", "prompts_file", "held_out_fraction", "balance"),  # the rows
    "lora_last_k",  # the regular expression
    "vllm_server_url",  # with a server alone
    "output_dir",  # of our own training
    *("stage_a_photos", "bootstrap_samples", "min_format", "max_stage_a_drop"),  # evaluation
}


def test_every_setting_of_training_has_an_option():
    assert set(GrpoSettings.model_fields) == set(CHANGES) | ELSEWHERE


@pytest.mark.parametrize(("name", "value", "expected"), [(name, *change) for name, change in CHANGES.items()])
def test_a_changed_setting_changes_its_options_alone(tmp_path, name, value, expected):
    usual = script_options(tmp_path, GrpoSettings())
    changed = script_options(tmp_path, GrpoSettings(**{name: value}))
    assert {
        key: changed.get(key) for key in usual | changed if usual.get(key) != changed.get(key)
    } == expected


def test_a_server_that_answers_is_named(tmp_path):
    found = script_options(tmp_path, GrpoSettings(rollouts="vllm_server", vllm_server_url="http://a:1"))
    assert (found["--vllm_mode"], found["--vllm_server_base_url"]) == (["server"], ["http://a:1"])


def test_float32_is_no_mixed_precision(tmp_path):
    found = script_options(tmp_path, GrpoSettings(), SwiftModel(Path("/m"), "qwen3_vl", "float32"))
    assert [found[f"--{name}"] for name in ("torch_dtype", "bf16", "fp16")] == [
        ["float32"],
        ["false"],
        ["false"],
    ]


def test_what_the_settings_do_not_say_is_as_trl_has_it(tmp_path):
    from trl import GRPOConfig

    ours = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    assert {name: getattr(ours, name) for name in TRL_DEFAULTS} == TRL_DEFAULTS


def test_a_mixture_of_experts_is_named_as_one(tmp_path):
    text = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    Qwen3VLMoeConfig(text_config=text, vision_config={"depth": 1, "out_hidden_size": 64}).save_pretrained(
        tmp_path
    )
    architecture = read_architecture(Checkpoint(tmp_path))
    assert architecture.model_type == "qwen3_vl_moe"
    assert select_last_blocks(architecture.module_names, 2).blocks == (1, 2)


def test_a_config_that_describes_no_model_names_the_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": "x"}}'
    )
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path}: its config.json .* give a complete"):
        read_architecture(Checkpoint(tmp_path))


def test_a_folder_that_holds_anything_is_left_as_it_is(tmp_path):
    (tmp_path / "train.sh").write_text("mine")
    with pytest.raises(OutputError, match=r"holds train\.sh already; give an empty or new folder"):
        export(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match=str(tmp_path / "a")):
        export(tmp_path / "a")


def test_without_tickets_to_learn_from_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="no tickets to learn from"):
        export(tmp_path / "a", train=[])
    assert not (tmp_path / "a").exists()


def test_the_script_is_written_last(tmp_path):
    script = export(tmp_path / "a").script
    assert max((tmp_path / "a").iterdir(), key=lambda path: path.stat().st_mtime_ns) == script

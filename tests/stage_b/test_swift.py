"""The real ms-swift on what `export-swift` writes, and adapters that both sides read.

`make test-swift` runs this with ms-swift in an environment of its own, named by SWIFT_VENV.
"""

import json
import math
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from stage_a_pipeline.demo.groups import compose_group
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_model, load_processor
from stage_a_pipeline.jsonl import write_records
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.settings import EngineSettings
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.dataset import tickets_to_dataset
from stage_a_pipeline.stage_b.export_swift import SwiftExport, export_swift
from stage_a_pipeline.stage_b.layers import select_last_blocks
from stage_a_pipeline.stage_b.rewards import VERDICT_REWARDS, combine_rewards
from stage_a_pipeline.stage_b.swift_script import SwiftModel, train_script
from stage_a_pipeline.stage_b.tickets import read_tickets
from tests.stage_b.conftest import MISSIONS

VENV = os.environ.get("SWIFT_VENV", "")

pytestmark = [
    pytest.mark.swift,
    pytest.mark.skipif(not VENV, reason="SWIFT_VENV names no environment of ms-swift; run `make test-swift`"),
]

SETTINGS = GrpoSettings(
    profile="brief",  # what the built-in checkpoint was taught with
    lora_last_k=2,
    max_steps=4,
    save_steps=2,
    gradient_accumulation=2,
    warmup_steps=0,
    learning_rate=5e-2,
    max_new_tokens=24,
    temperature=2.5,  # it knows the answers: only a hot one errs, and is taught anything
    top_p=1.0,
    reward_weights=(1.0, 0.25, 0.5),
)
NEAR = 1e-4
"""Logarithms of probabilities, in float32, between two releases of transformers and peft."""


@dataclass(frozen=True)
class Trained:
    """A folder that was exported, and trained in."""

    export: SwiftExport
    train: list[dict]
    held_out: list[dict]
    log: str

    @property
    def output(self) -> Path:
        return self.export.script.parent / "output"

    @property
    def adapter(self) -> Path:
        return self.output / "checkpoint-4"


@dataclass(frozen=True)
class Answer:
    """A greedy answer, and the logarithm of the probability of each of its tokens."""

    text: str
    log_probs: tuple[float, ...]


def swift(*command: str | Path, **variables: str) -> str:
    """What a program of ms-swift's environment says."""
    run = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    return run.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("swift") / "导出 it's"
    table, rng = list(MISSIONS.values()), Random(3)
    records = []
    for number in range(16):
        group = compose_group(
            rng, table[number % len(table)], wanted=("pass", "fail")[number % 2], size=1 + number % 3
        )
        summaries = tuple(scene.summary for scene in group.scenes)
        images = tuple(f"{place}.jpg" for place in range(len(summaries)))
        label = group.verdict.label
        records.append(GroupRecord(f"QC-{number:03d}", group.mission.name, label, images, summaries))
    write_records(folder.parent / "tickets.jsonl", records)
    tickets = read_tickets([folder.parent / "tickets.jsonl"], missions=MISSIONS).tickets
    train, held_out = (
        tickets_to_dataset(part, missions=MISSIONS, profile=SETTINGS.profile)
        for part in (tickets[:10], tickets[10:])
    )
    export = export_swift(
        folder, train=train, held_out=held_out, settings=SETTINGS, checkpoint="builtin", dtype="float32"
    )
    log = swift("bash", export.script, SWIFT=f"{VENV}/bin/swift")
    return Trained(export, list(train), list(held_out), log)


def swift_answers(trained: Trained, adapter: Path, folder: Path, *more: str) -> list[Answer]:
    """What ms-swift answers on the held-out tickets, by the command that the exported README gives."""
    readme = trained.export.script.with_name("README.md").read_text("utf-8")
    (command,) = re.findall(r"```\nHF_HUB_OFFLINE=1 swift (infer .*?)```", readme, re.S)
    given = {
        "output/checkpoint-N": str(adapter),
        "held_out.jsonl": str(trained.export.script.with_name("held_out.jsonl")),
        "answers.jsonl": str(folder / "answers.jsonl"),
    }
    words = [given.get(word, word) for word in shlex.split(command.replace("\\\n", ""))]
    swift(f"{VENV}/bin/swift", *words, "--logprobs", "true", *more)
    lines = (folder / "answers.jsonl").read_text("utf-8").splitlines()
    return [
        Answer(line["response"], tuple(token["logprob"] for token in line["logprobs"]["content"]))
        for line in map(json.loads, lines)
    ]


def our_answers(adapter: Path | None, rows: list[dict]) -> list[Answer]:
    """What the checkpoint answers when the pipeline has merged the adapter into it."""
    checkpoint = resolve_checkpoint("builtin", adapter=adapter)
    settings = EngineSettings(packed_weights=False)
    model = load_model(checkpoint, settings, torch.device("cpu"), torch.float32)
    tokenizer = load_processor(checkpoint).tokenizer
    answers = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_tensors="pt")
        said = model.generate(
            **prompt,
            max_new_tokens=SETTINGS.max_new_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = said.sequences[0, prompt["input_ids"].shape[1] :]
        log_probs = torch.cat(said.logits).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        answers.append(Answer(tokenizer.decode(tokens, skip_special_tokens=True), tuple(log_probs.tolist())))
    return answers


def unlikeness(ours: list[Answer], theirs: list[Answer]) -> float:
    """The largest difference of two logarithms for the same text; infinite between different texts."""
    return max(
        max(abs(a - b) for a, b in zip(one.log_probs, other.log_probs, strict=True))
        if one.text == other.text
        else math.inf
        for one, other in zip(ours, theirs, strict=True)
    )


def logged(trained: Trained) -> list[dict]:
    lines = map(json.loads, (trained.output / "logging.jsonl").read_text("utf-8").splitlines())
    return [line for line in lines if "reward" in line]


def completions(output: Path, *, steps: int = SETTINGS.max_steps) -> list[dict]:
    """One row per answer that was learned from."""
    # The last step is written again when training ends.
    lines = (output / "completions.jsonl").read_text("utf-8").splitlines()[:steps]
    rows = []
    for columns in map(json.loads, lines):
        rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows


def tickets_by_prompt(trained: Trained) -> dict[str, dict]:
    """The tickets to learn from, by what the checkpoint's own template makes of their chats."""
    template = load_processor(resolve_checkpoint("builtin")).tokenizer.apply_chat_template
    return {template(row["prompt"], add_generation_prompt=True, tokenize=False): row for row in trained.train}


def test_every_step_logs_the_three_rewards_and_their_weighted_sum(trained):
    steps = logged(trained)
    assert len(steps) == SETTINGS.max_steps
    for step in steps:
        means = [float(step[f"rewards/stage_b_{name}/mean"]) for name in VERDICT_REWARDS]
        (combined,) = combine_rewards([[mean] for mean in means], SETTINGS.reward_weights)
        assert float(step["reward"]) == pytest.approx(combined, abs=1e-3)


def test_something_was_learned_from(trained):
    assert max(float(step["grad_norm"]) for step in logged(trained)) > 0


def test_each_answer_earned_what_our_rewards_give_it(trained):
    by_prompt = tickets_by_prompt(trained)
    answers = completions(trained.output)
    assert len(answers) == SETTINGS.max_steps * SETTINGS.gradient_accumulation * SETTINGS.num_generations
    # ms-swift's template of the chat is not the checkpoint's own: the prompts must be the same all the same.
    rows = [by_prompt[answer["prompt"]] for answer in answers]
    columns = {name: [row[name] for row in rows] for name in ("group_label", "stage_a_summaries")}
    for name, reward in VERDICT_REWARDS.items():
        earned = [answer[f"stage_b_{name}"] for answer in answers]
        assert earned == pytest.approx(reward([answer["completion"] for answer in answers], **columns))
        assert len(set(earned)) > 1


def test_only_the_selected_modules_are_trained(trained):
    modules = trained.export.layers.modules
    expected = {f"base_model.model.{name}.lora_{side}.weight" for name in modules for side in "AB"}
    assert set(load_file(trained.adapter / "adapter_model.safetensors")) == expected
    moments = torch.load(trained.adapter / "optimizer.pt", weights_only=True)["state"]
    assert len(moments) == len(expected)


def test_what_ms_swift_merges_differs_in_the_selected_modules_alone_and_is_what_we_merge(trained, tmp_path):
    merged = tmp_path / "merged"
    swift(
        *(f"{VENV}/bin/swift", "export", "--adapters", trained.adapter, "--merge_lora", "true"),
        *("--use_hf", "true", "--output_dir", merged),
    )
    checkpoint = resolve_checkpoint("builtin", adapter=trained.adapter)
    before = load_file(checkpoint.folder / "model.safetensors")
    after = {
        name: weight for file in merged.glob("*.safetensors") for name, weight in load_file(file).items()
    }
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    assert changed == {f"{name}.weight" for name in trained.export.layers.modules}
    assert any("visual.merger" in name for name in before)
    ours = load_model(
        checkpoint, EngineSettings(packed_weights=False), torch.device("cpu"), torch.float32
    ).state_dict()
    for name in changed:
        torch.testing.assert_close(ours[name], after[name].float(), atol=1e-6, rtol=0)


def test_the_adapter_of_ms_swift_answers_the_same_with_us(trained, tmp_path):
    theirs = swift_answers(trained, trained.adapter, tmp_path)
    ours = our_answers(trained.adapter, trained.held_out)
    assert unlikeness(ours, theirs) < NEAR
    assert unlikeness(ours, our_answers(None, trained.held_out)) > 100 * NEAR


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", None])
def test_an_adapter_of_ours_answers_the_same_with_ms_swift(trained, tmp_path, task_type):
    checkpoint = resolve_checkpoint("builtin")
    model = load_model(checkpoint, EngineSettings(packed_weights=False), torch.device("cpu"), torch.float32)
    torch.manual_seed(1)
    config = LoraConfig(
        r=8,
        lora_alpha=128,
        lora_dropout=0.05,
        target_modules=trained.export.layers.target_regex,
        task_type=task_type,
        init_lora_weights=False,
    )
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    theirs = swift_answers(
        trained,
        tmp_path / "adapter",
        tmp_path,
        *("--model", str(checkpoint.folder), "--model_type", "qwen3_vl", "--torch_dtype", "float32"),
    )
    ours = our_answers(tmp_path / "adapter", trained.held_out)
    assert unlikeness(ours, theirs) < NEAR
    assert unlikeness(ours, our_answers(None, trained.held_out)) > 100 * NEAR


def test_a_prompt_that_is_too_long_is_replaced_by_another_and_told_but_never_cut(trained):
    output = trained.output.with_name("short")
    said = swift(
        *("bash", trained.export.script, "--max_length", "150", "--max_steps", "2", "--output_dir", output),
        SWIFT=f"{VENV}/bin/swift",
    )
    assert "is larger than the max_length(150)" in said
    assert {answer["prompt"] for answer in completions(output, steps=2)} <= set(tickets_by_prompt(trained))


def test_training_goes_on_from_a_checkpoint_of_its_own(trained):
    swift(
        "bash",
        trained.export.script,
        *("--resume_from_checkpoint", trained.output / "checkpoint-2", "--max_steps", "5"),
        *("--output_dir", trained.output.with_name("resumed")),
        SWIFT=f"{VENV}/bin/swift",
    )
    lines = (trained.output.with_name("resumed") / "logging.jsonl").read_text("utf-8").splitlines()
    steps = [line["global_step/max_steps"] for line in map(json.loads, lines) if "reward" in line]
    assert steps == ["3/5", "4/5", "5/5"]


def test_a_plugin_without_our_package_says_what_to_install(trained):
    program = (
        "import runpy, sys; sys.modules['stage_a_pipeline'] = None; "
        f"runpy.run_path({str(trained.export.script.with_name('plugin.py'))!r})"
    )
    run = subprocess.run([f"{VENV}/bin/python", "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert re.search(
        r"plugin\.py takes its rewards from .*; install it there, .*: pip install --no-deps \.", run.stderr
    )


@pytest.mark.parametrize("rollouts", ["vllm_colocate", "vllm_server"])
def test_ms_swift_knows_the_options_for_vllm(rollouts):
    """vLLM itself is not installed there."""
    settings = SETTINGS.model_copy(update={"rollouts": rollouts})
    layers = select_last_blocks(["language_model.layers.0.mlp.up_proj"], 1)
    script = train_script(settings, model=SwiftModel(Path("/m"), "qwen3_vl", "bfloat16"), layers=layers)
    program = (
        "import dataclasses; from swift.arguments import RLHFArguments; "
        "print(*(field.name for field in dataclasses.fields(RLHFArguments)))"
    )
    known = swift(f"{VENV}/bin/python", "-c", program).split()
    assert "vllm_mode" in script
    assert not set(re.findall(r"^  --(\w+)", script, re.M)) - set(known)

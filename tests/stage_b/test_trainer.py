"""TRL's trainer as we set it up: settings in its words, rewards on its messages, its errors as ours."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import pytest
import torch
from safetensors import SafetensorError

from stage_a_pipeline.errors import EngineOutOfMemoryError, OutputError, TrainingError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b import trainer
from stage_a_pipeline.stage_b.material import gather_material
from stage_a_pipeline.stage_b.run_folder import RunFolder
from stage_a_pipeline.stage_b.training import TrainingAudience, train_adapter
from tests.stage_b.test_training import FREE, OWN, THROUGH_TICKETS, Told
from tests.stage_b.trained import make_place


@pytest.fixture(autouse=True)
def _tensorboard_is_told_its_folder_by_a_variable(monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path, "0123")


def config(folder, *, engine=None, **grpo):
    return trainer.grpo_config(Settings.model_validate({"grpo": grpo, "engine": engine or {}}), folder)


WORDS = [
    ("seed", 7, {"seed": 7}),
    ("num_generations", 3, {"num_generations": 3, "per_device_train_batch_size": 3}),
    ("prompts_per_step", 3, {"per_device_train_batch_size": 12}),
    ("gradient_accumulation", 2, {"gradient_accumulation_steps": 2}),
    ("learning_rate", 0.1, {"learning_rate": 0.1}),
    ("epochs", 2.5, {"num_train_epochs": 2.5, "max_steps": -1}),
    ("max_steps", 9, {"max_steps": 9}),
    ("warmup_steps", 9, {"warmup_steps": 9}),
    ("max_new_tokens", 9, {"max_completion_length": 9}),
    ("temperature", 0.9, {"temperature": 0.9}),
    ("top_p", 0.8, {"top_p": 0.8}),
    ("kl_weight", 0.1, {"beta": 0.1}),
    ("reward_weights", (1.0, 0.0, 0.5), {"reward_weights": [1.0, 0.0, 0.5]}),
    ("rollouts", "vllm_colocate", {"use_vllm": True, "vllm_mode": "colocate", "vllm_server_base_url": None}),
    ("rollouts", "vllm_server", {"use_vllm": True, "vllm_mode": "server",
                                 "vllm_server_base_url": "http://127.0.0.1:8000"}),
    ("rollouts", "transformers", {"use_vllm": False}),
    ("save_steps", 9, {"save_steps": 9, "save_total_limit": 2}),
    ("trackers", (), {"report_to": []}),
    ("trackers", ("tensorboard", "mlflow"), {"report_to": ["tensorboard", "mlflow"]}),
]  # fmt: skip
"""A setting, a value, and what TRL is told."""

ELSEWHERE = {"lora_last_k", "lora_rank", "lora_alpha", "lora_dropout", "vllm_server_url"}
"""Settings that PEFT is told, or that stand beside another one."""


@pytest.mark.parametrize(("name", "value", "words"), WORDS)
def test_each_setting_reaches_trl(folder, name, value, words):
    told = config(folder, **{name: value})
    assert {word: getattr(told, word) for word in words} == words


def test_no_setting_of_the_training_is_forgotten():
    meant = set(GrpoSettings.model_fields) - set(THROUGH_TICKETS) - ELSEWHERE
    assert {name for name, _, _ in WORDS} == meant - {
        "output_dir",
        "stage_a_photos",
        "bootstrap_samples",
        "min_format",
        "max_stage_a_drop",
    }
    assert {*OWN, *FREE} - ELSEWHERE >= {name for name, _, _ in WORDS}


def test_what_has_no_setting_suits_the_device(folder):
    told = config(folder)
    assert (told.use_cpu, told.bf16, told.fp16, told.gradient_checkpointing) == (True, False, False, False)
    assert (told.logging_steps, told.logging_nan_inf_filter, told.disable_tqdm) == (1, False, True)
    assert told.output_dir == str(folder.checkpoints)
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(folder.tensorboard)
    assert config(folder, engine={"dtype": "bfloat16"}).bf16


SUMMARIES = [["甲"], ["乙"]]


def test_rewards_are_named_and_read_the_last_message(folder):
    chats = [
        [{"role": "assistant", "content": "通过\n理由:甲"}],
        [{"role": "assistant", "content": "想"}, {"role": "assistant", "content": "不通过\n理由:乙"}],
    ]
    columns = {"group_label": ["通过", "通过"], "stage_a_summaries": SUMMARIES, "task_type": ["a", "a"]}
    earned = {reward.__name__: reward(chats, **columns) for reward in trainer.reward_functions()}
    assert list(earned) == ["label", "format", "consistency"]
    assert earned["label"] == [1.0, 0.0]
    assert earned["format"] == [1.0, 1.0]
    texts = [chat[-1]["content"] for chat in chats]
    for reward in trainer.reward_functions():
        assert reward(texts, **columns) == earned[reward.__name__]


class State(NamedTuple):
    """What TRL tells a callback of the training."""

    global_step: int
    max_steps: int = 10
    is_world_process_zero: bool = True


class Arguments(NamedTuple):
    """What it tells of the settings."""

    fp16: bool = False
    warmup_steps: int = 0


@pytest.fixture
def steps(folder):
    folder.path.mkdir(parents=True)
    told = Told()
    return trainer._Steps(folder, told.audience), told


def log(steps, step=3, *, fp16=False, main=True, **logs):
    steps.on_log(Arguments(fp16), State(step, is_world_process_zero=main), None, logs={"reward": 1.0, **logs})


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_or_gradient_that_is_not_finite_ends_the_training_and_is_noted(folder, steps, name, value):
    with pytest.raises(TrainingError, match=f"diverged at step 3: {name} is not finite; lower grpo.learning"):
        log(steps[0], **{name: value})
    assert folder.metrics.read_text() == f'{{"step": 3, "reward": 1.0, "{name}": null}}\n'


def test_in_float16_gradients_may_overflow(folder, steps):
    log(steps[0], fp16=True, loss=0.1, grad_norm=float("inf"))
    with pytest.raises(TrainingError):
        log(steps[0], fp16=True, loss=float("nan"))


def test_steps_are_written_by_the_main_process_alone_and_the_last_summary_by_none(folder, steps):
    log(steps[0], step=1, loss=0.5)
    log(steps[0], step=1, main=False, loss=0.5)
    steps[0].on_log(Arguments(), State(1), None, logs={"train_runtime": 1.0})
    assert folder.metrics.read_text() == '{"step": 1, "reward": 1.0, "loss": 0.5}\n'
    assert steps[1].steps == [(1, 10)]


@pytest.mark.parametrize(("warmup", "told_of_it"), [(0, False), (9, False), (10, True), (100, True)])
def test_a_warm_up_as_long_as_the_training_is_told(steps, warmup, told_of_it):
    steps[0].on_train_begin(Arguments(warmup_steps=warmup), State(0), None)
    assert [f"grpo.warmup_steps is {warmup}, and there are 10 steps" in one for one in steps[1].notices] == (
        [True] if told_of_it else []
    )


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
]
NEEDS_A_FULL_DISK = [
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 226880 vs 226768"),
    RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


def full(monkeypatch, free):
    """A disk with so much room."""
    room = os.statvfs("/")
    monkeypatch.setattr(
        trainer.os, "statvfs", lambda _: os.statvfs_result((1, 1, *room[2:4], free, *room[5:]))
    )


@pytest.mark.parametrize("error", [*FULL, *NEEDS_A_FULL_DISK], ids=repr)
def test_a_full_disk_is_told_with_the_folder_and_the_remedy(monkeypatch, folder, error):
    full(monkeypatch, 0)
    message = r"0123 cannot be written: No space.*; free some space and run again"
    with pytest.raises(OutputError, match=message), trainer.clear_errors(folder):
        raise error


@pytest.mark.parametrize(
    "error",
    [*NEEDS_A_FULL_DISK[:2], OSError(errno.EACCES, "no"), RuntimeError("size mismatch"), KeyError("a")],
    ids=repr,
)
def test_other_errors_stay_what_they_are(monkeypatch, folder, error):
    full(monkeypatch, 1 << 30)
    with pytest.raises(type(error)), trainer.clear_errors(folder):
        raise error


def test_a_device_without_room_is_told_with_the_settings_to_lower(folder):
    message = r"no room for this training: 8 GiB; lower grpo\.prompts"
    with pytest.raises(EngineOutOfMemoryError, match=message), trainer.clear_errors(folder):
        raise torch.OutOfMemoryError("8 GiB")


def orders(sampler, epochs):
    return [list(trainer._OrderOfEpoch(sampler, lambda epoch=epoch: epoch)) for epoch in epochs]


def test_the_order_of_an_epoch_does_not_hang_on_those_before_it():
    from trl.trainer.utils import RepeatSampler

    def sampler(seed):
        return RepeatSampler(range(20), mini_repeat_count=2, batch_size=2, seed=seed)

    (first, second, third) = orders(sampler(1), range(3))
    assert first == list(sampler(1))
    assert first != second != third
    assert sorted(first) == sorted(second)
    assert orders(sampler(1), [2, 1]) == [third, second]
    assert orders(sampler(9), [0]) != [first]


def train(place, **grpo):
    """A real training in this process; what it has told."""
    place.configure(grpo={"max_steps": 1} | grpo)
    told = Told()
    trained = train_adapter(place.settings, gather_material(place.settings), told.audience, run_id="here")
    return trained, told


def test_more_blocks_than_there_are_take_all_of_them_and_it_is_told(tmp_path):
    trained, told = train(make_place(tmp_path), lora_last_k=9)
    assert told.notices == [
        "grpo.lora_last_k is 9, and the model has 4 language blocks: all of them get an adapter"
    ]
    assert (trained.record["blocks"], trained.record["depth"]) == ([0, 1, 2, 3], 4)
    assert told.logs[0] == "56 trainable parameters:"
    assert ", ".join(line.strip() for line in told.logs[1:7]).split(", ") == trained.record["trainable"]
    assert told.steps == [(0, 1), (1, 1)]


def test_a_training_that_diverges_says_so_and_leaves_no_adapter(tmp_path):
    place = make_place(tmp_path)
    with pytest.raises(TrainingError, match=r"diverged.* finite; lower grpo\.learning_rate"):
        train(place, learning_rate=1e30, max_steps=3)
    assert not place.adapter.exists()
    assert not place.run.adapter.exists()


def test_the_peft_settings_reach_the_adapter(tmp_path):
    import json

    trained, _ = train(make_place(tmp_path), lora_rank=3, lora_alpha=6, lora_dropout=0.25)
    config = json.loads((trained.adapter / "adapter_config.json").read_text("utf-8"))
    assert [config[key] for key in ("r", "lora_alpha", "lora_dropout")] == [3, 6, 0.25]


def test_settings_for_a_gpu_that_is_not_there_are_refused(tmp_path):
    from stage_a_pipeline.errors import ConfigurationError

    place = make_place(tmp_path)
    place.configure(engine={"devices": [f"cuda:{number}" for number in range(64)]})
    audience = TrainingAudience(print, print, print)
    with pytest.raises(ConfigurationError, match=r"cuda:63, and \d+ of them can be used; correct it"):
        train_adapter(place.settings, gather_material(place.settings), audience, run_id="here")

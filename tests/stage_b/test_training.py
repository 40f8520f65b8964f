"""What a training is told apart by, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.errors import CheckpointError, ConfigurationError, LockedError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.launch import require_extra
from stage_a_pipeline.stage_b.material import gather_material
from stage_a_pipeline.stage_b.run_folder import trained_ids
from stage_a_pipeline.stage_b.training import (
    TrainingAudience,
    claim_training,
    describe_training,
    require_trainable,
    train_adapter,
    training_folder,
)
from tests.stage_b.trained import STEPS, TICKETS, make_place, write_tickets

OWN = {
    "seed": 7,
    "lora_last_k": 1,
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "num_generations": 3,
    "prompts_per_step": 3,
    "gradient_accumulation": 2,
    "learning_rate": 0.1,
    "epochs": 2.0,
    "max_steps": 9,
    "warmup_steps": 9,
    "max_new_tokens": 9,
    "temperature": 0.9,
    "top_p": 0.8,
    "kl_weight": 0.1,
    "reward_weights": (1.0, 0.0, 0.0),
    "rollouts": "vllm_server",
}
"""Settings that make another training, each with another value."""
FREE = {
    "save_steps": 9,
    "trackers": (),
    "vllm_server_url": "http://127.0.0.1:9000",
    "stage_a_photos": 1,
    "bootstrap_samples": 900,
    "min_format": 0.5,
    "max_stage_a_drop": 0.5,
    "output_dir": "elsewhere",
}
"""Settings that may change while a training goes on."""
THROUGH_TICKETS = {
    "files": ("other.jsonl",),
    "missions": ("RRU线缆",),
    "profile": "other",
    "prompts_file": "other.toml",
    "held_out_fraction": 0.5,
    "balance": "label",
}
"""Settings that count by what they make of the tickets and their prompts."""


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    file = write_tickets(tmp_path_factory.mktemp("tickets") / "tickets.jsonl")
    return gather_material(Settings.model_validate({"grpo": {"files": [file]}}))


def key(material, *, grpo=None, engine=None):
    settings = Settings.model_validate({"grpo": grpo or {}, "engine": engine or {}})
    described = describe_training(settings, material, resolve_checkpoint("builtin"))
    return training_folder(settings, described).key


def test_every_setting_is_known_to_make_another_training_or_none():
    assert {*OWN, *FREE, *THROUGH_TICKETS} == set(GrpoSettings.model_fields)


@pytest.mark.parametrize(("name", "value"), OWN.items())
def test_settings_of_the_training_make_another_one(material, name, value):
    assert key(material, grpo={name: value}) != key(material)


@pytest.mark.parametrize(("name", "value"), [*FREE.items(), *THROUGH_TICKETS.items()])
def test_other_settings_leave_a_training_what_it_is(material, name, value):
    assert key(material, grpo={name: value}) == key(material)


@pytest.mark.parametrize(
    ("engine", "same"),
    [
        ({"dtype": "bfloat16"}, False),
        ({"devices": ["cpu", "cpu"]}, False),
        ({"dtype": "float32"}, True),
        ({"engine": "transformers", "batch_size": 3, "temperature": 0.5}, True),
    ],
)
def test_number_format_and_processes_make_another_training_and_stage_a_s_settings_do_not(
    material, engine, same
):
    assert (key(material, engine=engine) == key(material)) is same


def test_other_tickets_make_another_training(material, tmp_path):
    file = write_tickets(tmp_path / "tickets.jsonl", count=TICKETS - 1)
    other = gather_material(Settings.model_validate({"grpo": {"files": [file]}}))
    assert key(other) != key(material)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"engine": "fake"}, "engine 'fake' has none; to train one, set engine.engine to refill"),
        ({"adapter": "/some/adapter"}, "engine.adapter is /some/adapter, and Stage-B trains .*: unset it"),
        ({"devices": ["cpu", "cuda:0"], "dtype": "float32"}, "and one training cannot be on both"),
    ],
)  # fmt: skip
def test_settings_that_leave_nothing_to_train_are_refused(engine, message):
    with pytest.raises(ConfigurationError, match=message):
        require_trainable(Settings.model_validate({"engine": engine}))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text('{"model_type": "llama"}')
    settings = Settings.model_validate({"engine": {"checkpoint": str(tmp_path)}})
    with pytest.raises(CheckpointError, match="is of model type 'llama', not Qwen3-VL"):
        require_trainable(settings)


def test_libraries_that_are_missing_are_named_with_their_extra(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("trl", "peft") else found(name)
    )
    with pytest.raises(ConfigurationError, match=r"training needs trl, peft, .* pip install '\.\[grpo\]'"):
        require_extra(GrpoSettings())


def test_a_tracker_and_vllm_are_looked_for_before_a_training(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("mlflow", "vllm") else found(name)
    )
    require_extra(GrpoSettings(trackers=("tensorboard",)))
    with pytest.raises(ConfigurationError, match=r"grpo\.trackers asks for mlflow, which is not installed"):
        require_extra(GrpoSettings(trackers=("tensorboard", "mlflow")))
    with pytest.raises(ConfigurationError, match=r"grpo\.rollouts asks for vllm, which is not installed"):
        require_extra(GrpoSettings(rollouts="vllm_colocate"))


def test_two_runs_cannot_claim_one_folder_and_processes_of_one_run_can(tmp_path):
    settings = Settings.model_validate({"grpo": {"output_dir": tmp_path}})
    elsewhere = Settings.model_validate(
        {"grpo": {"output_dir": tmp_path}, "output": {"output_dir": tmp_path / "other"}}
    )
    with claim_training(settings, run_id="one"), claim_training(settings, run_id="one"):
        message = r"the adapter of Stage-B is being written by pid .*run one"
        with pytest.raises(LockedError, match=message), claim_training(elsewhere, run_id="two"):
            pass
    with claim_training(settings, run_id="two"):
        pass


class Told:
    """Keeps what a training tells."""

    def __init__(self):
        self.notices, self.logs, self.steps = [], [], []
        self.audience = TrainingAudience(
            self.notices.append, self.logs.append, lambda done, total: self.steps.append((done, total))
        )


def test_a_training_that_has_ended_is_not_begun_again(trained):
    told = Told()
    before = {path: path.stat().st_mtime_ns for path in trained.run.path.rglob("*")}
    again = train_adapter(trained.settings, gather_material(trained.settings), told.audience, run_id="again")
    assert again.adapter == trained.adapter
    assert "this training has ended before" in " ".join(told.notices)
    assert told.steps == []
    assert {path: path.stat().st_mtime_ns for path in trained.run.path.rglob("*")} == before


def test_metrics_have_every_step_once_with_the_reward_of_each_kind(trained):
    steps = trained.metrics()
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    for step in steps:
        kinds = [step[f"rewards/{name}/mean"] for name in ("label", "format", "consistency")]
        combined = sum(weight * kind for weight, kind in zip((1.0, 0.2, 0.2), kinds, strict=True))
        assert step["reward"] == pytest.approx(combined)
    assert any(step["grad_norm"] > 0 for step in steps)


def test_an_adapter_has_the_last_blocks_alone_and_has_learned(trained):
    with safe_open(trained.adapter / "adapter_model.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    assert {name.split("language_model.layers.")[1][0] for name in weights} == {"2", "3"}
    # B begins as nothing but zeros.
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)


def test_beside_its_weights_an_adapter_tells_what_it_was_trained_from(trained):
    record = json.loads((trained.adapter / "stage_b.json").read_text("utf-8"))
    assert record["checkpoint"] == resolve_checkpoint("builtin").content_hash()
    assert record["training"] == trained.run.key
    assert (record["steps"], record["blocks"], record["depth"]) == (STEPS, [2, 3], 4)
    assert record["frozen_before"] == record["frozen_after"]
    assert set(record["frozen_before"]) == {"vision", "aligner", "language"}
    assert len(record["trainable"]) == 2 * 7 * 2
    assert record["tickets"]["train"] + record["tickets"]["held_out"] == TICKETS
    material = gather_material(trained.settings)
    assert trained_ids(trained.adapter) == {ticket.group_id for ticket in material.train}
    assert sorted(path.name for path in trained.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "stage_b.json",
        "trained_on.txt",
    ]


def test_trackers_get_the_steps_too(trained):
    (events,) = trained.run.tensorboard.iterdir()
    assert b"rewards/label/mean" in events.read_bytes()


def test_tasks_of_processes_have_the_settings_as_they_are(tmp_path):
    place = make_place(tmp_path)
    place.configure(
        discovery={"input_root": "memory://photos"},
        inference={"worker_processes": False},
        output={"output_dir": "memory://results", "local_work_dir": "work"},
        grpo={"files": ["memory://results/a.jsonl"], "output_dir": "stage_b", "reward_weights": [1, 0, 2]},
    )
    sent = json.loads(json.dumps(place.settings.model_dump(mode="json")))
    assert Settings.model_validate(sent) == place.settings

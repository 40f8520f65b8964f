"""Which GPUs a training's processes see, and how many processes there are."""

from pathlib import Path

import pytest

from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b import launch


def settings(*devices, **engine):
    return Settings.model_validate({"engine": {"devices": devices, **engine}})


@pytest.mark.parametrize(
    ("visible", "devices", "seen"),
    [
        (None, ["cuda:3"], "3"),
        (None, ["cuda:1", "cuda:0"], "1,0"),
        ("4,5,6", ["cuda:2", "cuda:0"], "6,4"),
        ("GPU-a,GPU-b", ["cuda:1"], "GPU-b"),
        ("4", ["cuda:0", "cuda:1"], "4,-1"),
        ("4", ["cpu"], "4"),
        (None, ["cpu"], None),
    ],
)
def test_a_training_sees_the_gpus_of_the_settings_alone(monkeypatch, visible, devices, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launch._environment(settings(*devices)).get("CUDA_VISIBLE_DEVICES") == seen


def test_of_a_split_model_the_first_gpu_trains(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    split = settings("cuda:2+3", engine="vllm")
    assert launch._environment(split)["CUDA_VISIBLE_DEVICES"] == "2"


def test_one_device_needs_no_launcher_and_several_have_a_process_each():
    task = Path("task.json")
    assert launch._command(settings("cpu"), task)[1:] == [
        "-m",
        "stage_a_pipeline.stage_b.process",
        "task.json",
    ]
    command = launch._command(settings("cpu", "cpu", "cpu"), task)
    assert command[1:5] == ["-m", "torch.distributed.run", "--nproc_per_node", "3"]
    assert command[-3:] == ["-m", "stage_a_pipeline.stage_b.process", "task.json"]

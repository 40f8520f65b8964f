"""Trainings that are killed, interrupted or run out of disk: the same command ends in the same adapter."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from stage_a_pipeline.errors import LockedError, OutputError
from stage_a_pipeline.settings import SETTINGS_VARIABLE
from stage_a_pipeline.stage_b.material import gather_material
from stage_a_pipeline.stage_b.training import TrainingAudience, claim_training, train_adapter
from tests.faults.conftest import BIN, finish, gone, mounted, remount, wait_until
from tests.stage_b.trained import STEPS, TrainingPlace, make_place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingPlace:
    """The same tickets and settings as those of the undisturbed training."""
    # A training sets it for its process.
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    return make_place(tmp_path / "place")


@pytest.fixture
def start() -> Iterator[Callable[[TrainingPlace], psutil.Popen]]:
    """Starts `stage-a grpo train` in a group of its own; nothing of it outlives the test."""
    started: list[psutil.Popen] = []

    def train(place: TrainingPlace) -> psutil.Popen:
        process = psutil.Popen(
            [str(BIN / "stage-a"), "grpo", "train"],
            env=os.environ | {SETTINGS_VARIABLE: str(place.settings_file), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield train
    for process in started:
        for member in family(process):
            with suppress(psutil.NoSuchProcess):
                member.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def family(process: psutil.Popen) -> list[psutil.Process]:
    """The command and all processes below it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_free(place: TrainingPlace) -> bool:
    """Whether nobody holds the claim; a dying process does for some moments after its last sign of life."""
    try:
        with claim_training(place.settings, run_id="test"):
            return True
    except LockedError:
        return False


def wait_for_step(place: TrainingPlace, step: int, process: psutil.Popen) -> None:
    def reached() -> bool:
        folder = place.stage_b / "runs"
        return folder.exists() and any(folder.iterdir()) and len(place.metrics()) >= step

    wait_until(reached, f"step {step}", process, 120)


def train_here(place: TrainingPlace) -> list[str]:
    """What the command's own process does, without the seconds it takes to start; the notices."""
    notices: list[str] = []
    audience = TrainingAudience(notices.append, lambda _: None, lambda *_: None)
    train_adapter(place.settings, gather_material(place.settings), audience, run_id="here")
    return notices


def without_times(place: TrainingPlace) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key != "step_time"} for row in place.metrics()]


def assert_as_undisturbed(place: TrainingPlace, trained: TrainingPlace) -> None:
    assert place.run.key == trained.run.key
    assert without_times(place) == without_times(trained)
    assert place.weights() == trained.weights()


def test_a_killed_training_leaves_no_process_and_goes_on_to_the_same_adapter(place, trained, start):
    process = start(place)
    wait_for_step(place, Random(20).randrange(1, STEPS - 2), process)
    members = family(process)
    assert len(members) == 2
    process.kill()
    process.wait()
    wait_until(lambda: gone(members) and is_free(place), "the end of the training's process", seconds=10)
    assert not place.adapter.exists()
    kept = len(place.metrics())
    ended = place.grpo("train")
    assert ended.code == 0, ended.output
    if kept > 1:
        assert "the training goes on after step" in ended.output
    assert_as_undisturbed(place, trained)


def test_a_checkpoint_that_a_kill_has_cut_is_left_for_the_one_before(place, trained):
    """What a kill leaves while the last checkpoint is being written, made of a training that has ended."""
    shutil.copytree(trained.stage_b, place.stage_b, symlinks=True)
    place.adapter.unlink()
    shutil.rmtree(place.run.adapter)
    cut = place.run.checkpoints / f"checkpoint-{STEPS}"
    (cut / "whole").unlink()
    os.truncate(cut / "optimizer.pt", 100)
    with place.run.metrics.open("ab") as file:
        file.write(f'{{"step": {STEPS + 1}, "rew'.encode())
    notices = train_here(place)
    assert [f"the training goes on after step {STEPS - 1}, from " in one for one in notices] == [True]
    assert_as_undisturbed(place, trained)


def test_a_second_training_is_refused_and_a_killed_process_of_the_first_is_told(place, trained, start):
    process = start(place)
    wait_for_step(place, 1, process)
    second = place.grpo("train")
    assert second.code == 1
    assert f"the adapter of Stage-B is being written by pid {process.pid} on " in second.output
    assert "(train an adapter, run grpo-" in second.output

    _, child = family(process)
    child.kill()
    ended = finish(process)
    assert ended.code == 1
    assert "the training's process ended (signal SIGKILL); what it had trained is kept: run again" in (
        ended.output
    )
    assert not place.adapter.exists()
    assert place.metrics()


def test_ctrl_c_ends_a_training_with_what_to_do_and_leaves_no_process(place, start):
    process = start(place)
    wait_for_step(place, 1, process)
    members = family(process)
    os.killpg(process.pid, signal.SIGINT)
    ended = finish(process, 30)
    assert ended.code == 130
    assert ended.output.endswith("run the same command again: a training goes on after its last checkpoint")
    assert "Traceback" not in ended.output
    assert gone(members)


def test_a_disk_that_fills_up_under_a_training_is_named_and_with_space_it_goes_on(place, trained):
    with mounted(place.stage_b, "size=2m") as disk:
        message = r"stage_b/runs/.* cannot be written: No space left on device; free some space and run again"
        with pytest.raises(OutputError, match=message):
            train_here(place)
        assert not place.adapter.exists()
        remount(disk, "size=64m")
        train_here(place)
        assert_as_undisturbed(place, trained)


@pytest.mark.slow
def test_two_processes_train_one_adapter_and_end_together(place, start):
    place.configure(engine={"devices": ["cpu", "cpu"]}, grpo={"max_steps": 2})
    process = start(place)
    wait_for_step(place, 1, process)
    # The command, torch's launcher, and the two.
    members = family(process)
    assert len(members) == 4
    process.kill()
    process.wait()
    wait_until(lambda: gone(members) and is_free(place), "the end of all processes", seconds=20)
    ended = place.grpo("train")
    assert ended.code == 0, ended.output
    assert [row["step"] for row in place.metrics()] == [1, 2]
    checkpoint = place.run.checkpoints / "checkpoint-2"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert (checkpoint / "adapter_model.safetensors").read_bytes() == place.weights()

"""Training repeats itself from its seed, and continues where it was stopped."""

import json
import multiprocessing
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from stage_a_pipeline.demo.training import train as recipe
from stage_a_pipeline.demo.training.train import Course, Optimisation, Phase, train
from stage_a_pipeline.errors import ConfigurationError

PLAN = (Course((Phase("VLBT", 3), Phase("J", 7))),)
SMALL = Optimisation(rows=2, warm_up_steps=2)


def run(out, **changes):
    arguments = {"seed": 1, "plan": PLAN, "optimisation": SMALL, "save_every": 2, "workers": 0, **changes}
    return train(out, **arguments)


def weights(out):
    return load_file(out / "checkpoint" / "model.safetensors")


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("training")
    run(out)
    return out


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_seed_gives_the_same_weights(uninterrupted, workers, tmp_path):
    run(tmp_path, workers=workers)
    assert equal(weights(tmp_path), weights(uninterrupted))


def test_every_user_may_read_the_checkpoint(uninterrupted):
    modes = {path.stat().st_mode & 0o777 for path in (uninterrupted / "checkpoint").iterdir()}
    assert modes == {0o644}


def test_the_number_of_threads_is_left_as_it_was(uninterrupted):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(uninterrupted)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_another_seed_gives_other_weights(uninterrupted, tmp_path):
    run(tmp_path, seed=2)
    assert not equal(weights(tmp_path), weights(uninterrupted))


def run_and_die(out):
    """Dies after the first state was saved, before its checkpoint is written."""
    recipe.save_checkpoint = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    run(out)


def test_a_killed_training_continues_to_the_same_weights(uninterrupted, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=run_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(tmp_path / "training_state.pt", weights_only=True)["step"] == 2
    run(tmp_path)
    assert equal(weights(tmp_path), weights(uninterrupted))


def test_a_finished_training_is_not_repeated(uninterrupted):
    before = (uninterrupted / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    run(uninterrupted)
    assert (uninterrupted / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"plan": (Course(PLAN[0].phases[:1]),)}, {"optimisation": Optimisation(rows=3)}]
)
def test_the_state_of_another_training_is_refused(uninterrupted, changes):
    with pytest.raises(ConfigurationError, match=r"training_state\.pt belongs to a training with other"):
        run(uninterrupted, **changes)


@pytest.mark.parametrize("device", ["cuda:7", "cuda:x", "tpu", ""])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(device, tmp_path):
    with pytest.raises(ConfigurationError, match=f"device '{device}' is not there"):
        run(tmp_path / "out", device=device)
    assert not (tmp_path / "out").exists()


def test_the_state_holds_nothing_but_tensors_and_numbers(uninterrupted):
    state = torch.load(uninterrupted / "training_state.pt", weights_only=True)
    assert state["step"] == 10


def test_progress_tells_step_and_losses(uninterrupted):
    last = json.loads((uninterrupted / "progress.jsonl").read_text("utf-8").splitlines()[-1])
    assert (last["step"], last["of"]) == (10, 10)
    assert {"J.answer", "J.cells"} <= set(last["losses"])


def test_the_rate_warms_up_stays_and_falls():
    optimisation = Optimisation(learning_rate=1.0, warm_up_steps=10, decay=0.5, final_share=0.02)
    rates = [optimisation.rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert 0.02 < rates[-1] < 0.03


def test_every_course_has_its_own_rise_and_fall():
    plan = (Course((Phase("V", 30), Phase("J", 70))), Course((Phase("JC", 50),), peak=0.4))
    plan_rates = recipe._Recipe(1, plan, Optimisation(warm_up_steps=10))
    rates = [plan_rates.rate_of(step) for step in range(len(plan_rates))]
    assert len(rates) == 150
    assert (max(rates[:100]), max(rates[100:])) == (1.0, 0.4)
    assert rates[99] < 0.03 < rates[110] == 0.4
    assert rates[149] < 0.02
    assert {plan_rates.kind_of(step) for step in range(100, 150)} == {"J", "C"}
    for beyond in (plan_rates.rate_of, plan_rates.kind_of):
        with pytest.raises(IndexError):
            beyond(150)

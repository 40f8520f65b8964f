"""What a shard makes of the settings: threads, batch size, decoding mode, fingerprint."""

import os
from dataclasses import replace

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.images import decode_photo
from stage_a_pipeline.inference import photos_ahead
from stage_a_pipeline.inference.asking import Listeners
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import (
    ShardTask,
    batching_options,
    mission_recipe,
    mission_recipes,
    run_shard,
)
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from tests.conftest import BRACKETS, MISSION, write_groups


def settings_of(tmp_path, *, engine=None, inference=None):
    (tmp_path / "faults.toml").write_text("max_batch = 3", "utf-8")
    return Settings.model_validate(
        {
            "engine": {"engine": "fake", "fake_faults": tmp_path / "faults.toml", **(engine or {})},
            "inference": {"lease_dir": tmp_path / "leases", **(inference or {})},
            "output": {"output_dir": tmp_path / "out"},
        }
    )


def run(tmp_path, settings, missions=(MISSION,)):
    groups = []
    for number, mission in enumerate(missions):
        root = write_groups(tmp_path / "in", mission, {"pass": [4, 3]}, first_seed=100 * number)
        groups += discover_groups(root, mission).groups
    refs = deal_out(enumerate(groups), shards=1, mode="per_group")[0]
    recipes = mission_recipes((load_missions()[mission] for mission in missions), settings)
    told, outcomes = [], []
    task = ShardTask("cpu", refs, Worker("cpu"), recipes, settings, "run")
    metrics = run_shard(task, listeners=Listeners(), log=told.append, keep=outcomes.append)
    assert len(outcomes) == len(refs)
    return metrics, told


@pytest.mark.parametrize(
    ("cpus", "devices", "device", "threads"),
    [
        (64, ["cpu"], "cpu", 2),
        (64, ["cuda:0"], "cuda:0", 16),
        (16, ["cuda:0", "cuda:1"], "cuda:1", 8),
        (16, ["cuda:0", "cuda:0", "cuda:1", "cuda:1"], "cuda:0", 4),
        (4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"], "cuda:0", 2),
        (1, ["cuda:0"], "cuda:0", 2),
    ],
)
def test_threads_ahead_are_the_processors_that_a_cuda_device_has(
    tmp_path, monkeypatch, cpus, devices, device, threads
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    settings = settings_of(tmp_path, engine={"devices": devices})
    assert batching_options(settings, device).decode_workers == threads


def test_threads_that_are_set_are_kept(tmp_path):
    assert batching_options(settings_of(tmp_path, inference={"decode_workers": 5}), "cpu").decode_workers == 5


@pytest.mark.parametrize(
    ("engine", "device", "inference", "ahead"),
    [
        ({"engine": "refill", "batch_size": 16}, "cpu", {}, 4),
        ({"engine": "refill", "batch_size": 16}, "cpu", {"decode_workers": 6}, 12),
        ({"engine": "refill", "batch_size": 3}, "cpu", {}, 3),
        ({"engine": "refill", "batch_size": 16}, "cpu", {"batching_mode": "per_group"}, 16),
        ({"engine": "refill", "batch_size": 16}, "cuda:0", {}, 16),
        ({"engine": "transformers", "batch_size": 16}, "cpu", {}, 16),
    ],
)
def test_an_engine_that_takes_photos_one_by_one_needs_few_ahead(tmp_path, engine, device, inference, ahead):
    options = batching_options(settings_of(tmp_path, engine=engine, inference=inference), device)
    assert options.window == ahead
    assert replace(options, batch_size=1).window == 1, "as where the batch size is found, and small"


def test_budgets_and_window_are_those_of_the_settings(tmp_path):
    engine = {"batch_size": 7, "max_batch_tokens": 100, "max_batch_pixels": 200}
    options = batching_options(settings_of(tmp_path, engine=engine, inference={"sort_window": 9}), "cpu")
    assert (options.budget.rows, options.budget.tokens, options.budget.pixels) == (7, 100, 200)
    assert options.sort_window == 9


def test_a_batch_size_that_the_engine_finds_is_told_and_used(tmp_path):
    metrics, told = run(tmp_path, settings_of(tmp_path, engine={"batch_size": "auto"}))
    assert "batch size auto: 3 photos at once have room on cpu" in told
    assert metrics.batch_size == 3
    assert (metrics.steps, metrics.places, metrics.filled_places) == (3, 9, 7)
    assert metrics.to_metadata()["batch_size"] == 3


def test_a_batch_size_that_is_set_is_not_told_but_shown(tmp_path):
    metrics, told = run(tmp_path, settings_of(tmp_path, engine={"batch_size": 2}))
    assert not any("auto" in line for line in told)
    assert metrics.batch_size == 2


def test_the_batch_size_is_found_for_all_missions_of_the_shard(tmp_path, monkeypatch):
    from stage_a_pipeline.engines.fake import FakeEngine

    asked = []

    def fitting_rows(self, prompts, *, max_pixels, max_new_tokens):
        asked.append((set(prompts), max_pixels, max_new_tokens))
        return 2

    monkeypatch.setattr(FakeEngine, "fitting_rows", fitting_rows)
    missions = (BRACKETS, MISSION)
    settings = settings_of(tmp_path, engine={"batch_size": "auto", "max_new_tokens": 99})
    run(tmp_path, settings, missions)
    recipes = mission_recipes((load_missions()[mission] for mission in missions), settings)
    assert asked == [({recipe.prompt for recipe in recipes.values()}, 1_048_576, 99)]


def test_the_mode_of_decoding_belongs_to_the_fingerprint_and_reaches_the_decoder(tmp_path, monkeypatch):
    modes = []

    def noted(*arguments, decode, **more):
        modes.append(decode)
        return decode_photo(*arguments, decode=decode, **more)

    monkeypatch.setattr(photos_ahead, "decode_photo", noted)
    mission = load_missions()[MISSION]
    exact, fast = (settings_of(tmp_path, inference={"decode": mode}) for mode in ("exact", "fast"))
    assert (
        mission_recipe(mission, exact).fingerprint
        == mission_recipe(mission, settings_of(tmp_path)).fingerprint
    )
    assert mission_recipe(mission, exact).fingerprint != mission_recipe(mission, fast).fingerprint
    run(tmp_path, exact)
    run(tmp_path, fast)
    assert (modes.count("exact"), modes.count("fast")) == (7, 7), "neither reuses the other's answers"

"""Clocks that go backwards, and files that are older or younger than they can be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.fake import FakeEngine
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import EngineSettings, Settings
from tests.conftest import MISSION
from tests.faults.conftest import PHOTOS

YEAR = 365 * 86_400.0


def backwards() -> Iterator[float]:
    now = 1e9
    while True:
        yield now
        now -= 60.0


def leaping() -> Iterator[float]:
    while True:
        yield from (1e9, 1e9 - YEAR, 1e9 + YEAR)


@pytest.mark.parametrize("clock", [backwards, leaping])
def test_a_clock_that_goes_wrong_costs_no_outcome(workplace, clock):
    groups = discover_groups(workplace.root, MISSION).groups
    (refs,) = deal_out(enumerate(groups), shards=1, mode="per_group")
    recipe = mission_recipe(load_missions()[MISSION], Settings(engine=EngineSettings(engine="fake")))
    told = []
    ticks = clock()
    with Journal(workplace.folder / "journal", "cpu", [MISSION]) as journal:
        scheduler = ShardScheduler(
            FakeEngine(),
            journal,
            {MISSION: recipe},
            GenerationOptions(max_new_tokens=8),
            BatchingOptions(batch_size=4),
            listeners=Listeners(progress=lambda progress: told.append(progress.sentence())),
            clock=lambda: next(ticks),
        )
        outcomes = list(scheduler.run(refs))
        assert len(journal) == PHOTOS
    assert len({outcome.ref for outcome in outcomes}) == len(outcomes) == PHOTOS
    assert told[-1].startswith(f"{PHOTOS} of {PHOTOS} photos")


@pytest.mark.parametrize("shift", [-10 * YEAR, 10 * YEAR], ids=["past", "future"])
def test_times_of_files_never_decide_about_an_answer(workplace, shift):
    assert workplace.run_here().code == 0
    before, asked = workplace.published(), len(workplace.asked())
    moment = time.time() + shift
    for path in [*workplace.root.rglob("*"), *workplace.out.rglob("*")]:
        os.utime(path, (moment, moment))
    assert workplace.run_here().code == 0
    assert (workplace.published(), len(workplace.asked())) == (before, asked)

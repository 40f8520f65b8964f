"""The photos at the beginning of a shard that an earlier run has finished, and what follows them."""

import pytest

from stage_a_pipeline import photo_source
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.fake import FakeEngine
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.remembered import remembered_outcomes
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.prompts import Prompt
from tests.conftest import MISSION, write_groups

GREEDY = GenerationOptions(max_new_tokens=64, repetition_penalty=1.05)
RECIPES = {MISSION: Recipe(Prompt("system", "user"), 1_048_576, "fingerprint")}
BATCHING = BatchingOptions(4)


@pytest.fixture
def refs(tmp_path):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})
    return deal_out(enumerate(discover_groups(root, MISSION).groups), shards=1, mode="per_group")[0]


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal", "cpu", [MISSION]) as opened:
        yield opened


def ask(refs, journal, metrics=None, **listeners):
    scheduler = ShardScheduler(
        FakeEngine(), journal, RECIPES, GREEDY, BATCHING, metrics=metrics, listeners=Listeners(**listeners)
    )
    return list(scheduler.run(refs))


def recall(refs, journal, metrics=None, **listeners):
    metrics = ShardMetrics() if metrics is None else metrics
    return list(
        remembered_outcomes(
            refs, journal, RECIPES, GREEDY, BATCHING, metrics=metrics, listeners=Listeners(**listeners)
        )
    )


def test_nothing_is_told_before_anything_was_asked(refs, journal):
    assert recall(refs, journal) == []


def test_answers_are_told_in_order_up_to_the_first_photo_without_one(refs, journal):
    ask([*refs[:5], *refs[6:]], journal)
    told = recall(refs, journal)
    assert [outcome.ref for outcome in told] == refs[:5]
    assert all(outcome.reused for outcome in told)


def test_a_photo_that_cannot_be_read_is_rejected_and_keeps_nobody_waiting(refs, journal):
    ask(refs, journal)
    refs[2].image.path.unlink()
    warnings, metrics = [], ShardMetrics()
    told = recall(refs, journal, metrics, warning=warnings.append)
    assert [outcome.ref for outcome in told] == refs
    assert (told[2].stage, told[2].reason) == ("read", "unreadable")
    assert len(warnings) == 1
    assert (metrics.photos, metrics.reused, metrics.rejected) == (12, 11, 1)


def test_every_photo_of_a_finished_shard_is_read_once(refs, journal, monkeypatch):
    ask(refs, journal)
    read, real = [], photo_source.read_photo
    monkeypatch.setattr(photo_source, "read_photo", lambda path: read.append(path) or real(path))
    recall(refs, journal)
    assert sorted(read) == sorted(ref.image.path for ref in refs)


def test_progress_ends_at_the_total_where_nothing_is_asked(refs, journal):
    ask(refs, journal)
    told = []
    recall(refs[:11], journal, progress=told.append)
    assert (told[-1].done, told[-1].total) == (11, 11)


def test_the_scheduler_goes_on_counting(refs, journal):
    ask(refs[:5], journal)
    metrics, told = ShardMetrics(), []
    recall(refs, journal, metrics, progress=told.append)
    ask(refs[5:], journal, metrics, progress=told.append)
    assert (metrics.photos, metrics.reused, metrics.inferred) == (12, 5, 7)
    assert [progress.done for progress in told] == sorted({progress.done for progress in told})
    assert {progress.total for progress in told} == {12}
    assert told[-1].done == 12

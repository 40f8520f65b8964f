"""Lines about progress, in whatever is counted."""

import json
from dataclasses import asdict

import pytest

from stage_a_pipeline.inference import metrics
from stage_a_pipeline.inference.metrics import (
    Progress,
    Queue,
    ShardMetrics,
    counted,
    merge_metrics,
    progress_lines,
)


def test_photos_are_told_with_those_that_were_reused_or_rejected():
    said = []
    done = ShardMetrics(photos=30, reused=10, rejected=1, seconds=10.0)
    progress_lines(said.append, "cpu")(Progress(50, done))
    assert said == ["cpu: 30 of 50 photos, 2.0 photos/s, 10 reused, 1 rejected, about 10 s left"]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ([(0.0, 0), (20.0, 40)], "training: 40 of 100 steps, 2.0 steps/s, about 30 s left"),
        ([(7.0, 90), (12.0, 95), (17.0, 100)], "training: 100 of 100 steps, 1.0 steps/s"),
        ([(7.0, 90)], "training: 90 of 100 steps, 0.0 steps/s"),
    ],
    ids=["begun", "gone on with", "just begun again"],
)
def test_the_rate_of_other_things_leaves_out_what_was_done_before(told, line, monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    tell = counted(progress_lines(said.append, "training", "steps", every_seconds=0.0))
    for now[0], done in told:
        tell(done, 100)
    assert said[-1] == line


def test_merged_metrics_sum_what_photos_were_rejected_for():
    shards = [ShardMetrics(seconds=2.0), ShardMetrics(seconds=1.0)]
    for shard, reason in zip(shards, ("truncated", "truncated"), strict=True):
        shard.count_rejection("read", reason)
    shards[1].count_rejection("summarise", "empty")
    merged = merge_metrics(shards)
    assert merged.rejects == {"read/truncated": 2, "summarise/empty": 1}
    assert (merged.rejected, merged.seconds) == (3, 2.0)
    assert ShardMetrics(**json.loads(json.dumps(merged.to_mapping()))) == merged


def test_a_progress_told_keeps_its_rejects_when_more_come():
    metrics = ShardMetrics()
    told = Progress(2, metrics.copy())
    metrics.count_rejection("read", "truncated")
    assert told.metrics.rejects == {}


def test_a_progress_travels_as_a_mapping():
    progress = Progress(9, ShardMetrics(photos=2), Queue(3, 1))
    assert Progress.from_mapping(json.loads(json.dumps(asdict(progress)))) == progress
    assert progress.to_come == 3

"""Lines about progress, in whatever is counted."""

import pytest

from stage_a_pipeline.inference import metrics
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics, counted, progress_lines


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

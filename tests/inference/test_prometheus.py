"""The metrics file, read back with the parser that Prometheus' own client brings."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.inference.prometheus import PrometheusFile

METRICS = ShardMetrics(
    photos=10, inferred=6, reused=3, rejected=2, retried=1, places=8, filled_places=6,
    computed_tokens=100, padding_tokens=25, generated_tokens=60, seconds=2.0,
)  # fmt: skip


def read(folder):
    """Values by name, and by the label beside the device where there is one."""
    found = {}
    for family in text_string_to_metric_families((folder / "stage_a_cpu.prom").read_text("utf-8")):
        for sample in family.samples:
            assert sample.labels.pop("device") == "cpu"
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_counts_and_shares_stand_in_the_file(tmp_path):
    PrometheusFile(tmp_path / "new", "cpu", pytest.fail)(Progress(20, METRICS))
    found = read(tmp_path / "new")
    assert found["stage_a_photos_total", "inferred"] == 6
    assert found["stage_a_photos_total", "rejected"] == 2
    assert found["stage_a_tokens_total", "generated"] == 60
    assert found["stage_a_retries_total", "unusable"] == 1
    assert found["stage_a_photos_planned",] == 20
    assert found["stage_a_batch_fill_ratio",] == 0.75
    assert found["stage_a_padding_ratio",] == 0.25
    assert found["stage_a_eta_seconds",] == pytest.approx(10 / 3.5)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["stage_a_cpu.prom"]


def test_it_is_written_every_few_seconds_and_at_the_end(tmp_path):
    times, counts = iter((0.0, 0.0, 0.0, 1.0, 6.0, 6.0, 7.0)), []
    file = PrometheusFile(tmp_path, "cpu", pytest.fail, clock=lambda: next(times))
    for done in (1, 2, 3, 20):
        file(Progress(20, ShardMetrics(photos=done, inferred=done)))
        counts.append(read(tmp_path)["stage_a_photos_done",])
    assert counts == [1, 1, 3, 20]


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    file = PrometheusFile(tmp_path / "file", "cpu", told.append)
    file(Progress(1, ShardMetrics(photos=1)))
    file(Progress(1, ShardMetrics(photos=1)))
    (sentence,) = told
    assert "stage_a_cpu.prom cannot be written" in sentence
    assert "output.prometheus_dir" in sentence

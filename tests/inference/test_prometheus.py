"""The metrics file, read back with the parser that Prometheus' own client brings."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stage_a_pipeline.inference.metrics import Progress, Queue, ShardMetrics
from stage_a_pipeline.inference.prometheus import PrometheusFile
from tests.conftest import BRACKETS, MISSION

METRICS = ShardMetrics(
    photos=10, inferred=6, reused=3, rejected=2, retried=1, steps=2, places=8, filled_places=6, batch_size=4,
    computed_tokens=100, padding_tokens=25, generated_tokens=60, waiting_seconds=0.5, seconds=2.0,
    rejects={"read/truncated": 1, "summarise/empty": 1},
)  # fmt: skip
PROGRESS = Progress(20, METRICS, Queue(ready=2, under_way=4))


def read(path):
    """Values by name, and by the labels beside device and mission where there are some."""
    found = {}
    for family in text_string_to_metric_families(path.read_text("utf-8")):
        for sample in family.samples:
            assert sample.labels.pop("device") == "cpu"
            assert sample.labels.pop("mission").startswith(MISSION)
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_counts_and_shares_stand_in_the_file(tmp_path):
    with PrometheusFile(tmp_path / "new", "cpu", [MISSION], pytest.fail, seconds=0.01) as file:
        file(PROGRESS)
        (path,) = (tmp_path / "new").glob("*.prom")
        while (found := read(path))["stage_a_photos_done",] == 0:
            time.sleep(0.01)
    assert path.name == f"stage_a_{MISSION}_cpu.prom"
    assert found["stage_a_running",] == 1
    assert found["stage_a_photos_total", "inferred"] == 6
    assert found["stage_a_photos_total", "rejected"] == 2
    assert found["stage_a_rejects_total", "truncated", "read"] == 1
    assert found["stage_a_rejects_total", "empty", "summarise"] == 1
    assert found["stage_a_tokens_total", "generated"] == 60
    assert found["stage_a_seconds_total", "waiting"] == 0.5
    assert found["stage_a_places_total", "filled"] == 6
    assert found["stage_a_places_total", "empty"] == 2
    assert found["stage_a_steps_total",] == 2
    assert found["stage_a_retries_total", "unusable"] == 1
    assert found["stage_a_photos_planned",] == 20
    assert found["stage_a_batch_size",] == 4
    assert found["stage_a_batch_fill_ratio",] == 0.75
    assert found["stage_a_padding_ratio",] == 0.25
    assert found["stage_a_eta_seconds",] == pytest.approx(10 / 3.5)
    assert found["stage_a_queue_photos", "ready"] == 2
    assert found["stage_a_queue_photos", "under_way"] == 4
    assert found["stage_a_queue_photos", "to_come"] == 4
    assert [found.name for found in (tmp_path / "new").iterdir()] == [path.name]


def test_when_the_run_is_over_the_counts_stay_and_what_only_a_run_has_is_gone(tmp_path):
    with PrometheusFile(tmp_path, "cpu", [MISSION], pytest.fail) as file:
        file(PROGRESS)
    (path,) = tmp_path.iterdir()
    found = read(path)
    assert found["stage_a_running",] == 0
    assert found["stage_a_photos_done",] == 10
    assert found["stage_a_photos_per_second",] == 0
    assert [found["stage_a_queue_photos", state] for state in ("ready", "under_way", "to_come")] == [0, 0, 0]
    assert ("stage_a_eta_seconds",) not in found


def test_it_is_written_anew_although_nothing_is_told(tmp_path):
    """The engine may take minutes for a photo: a fresh date says that its run is alive."""
    beats = []
    with PrometheusFile(tmp_path, "cpu", [MISSION], pytest.fail, every=lambda: beats.append(1), seconds=0.01):
        (path,) = tmp_path.iterdir()
        first = read(path)["stage_a_updated_timestamp_seconds",]
        while read(path)["stage_a_updated_timestamp_seconds",] == first or not beats:
            time.sleep(0.01)


def test_of_several_missions_the_first_names_the_file_and_all_the_label(tmp_path):
    with PrometheusFile(tmp_path, "cpu", [MISSION, BRACKETS], pytest.fail):
        pass
    (path,) = tmp_path.iterdir()
    assert path.name == f"stage_a_{MISSION}_cpu.prom"
    assert f'mission="{MISSION}, {BRACKETS}"' in path.read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    with PrometheusFile(tmp_path / "file", "cpu", [MISSION], told.append) as file:
        file(PROGRESS)
    (sentence,) = told
    assert "_cpu.prom cannot be written" in sentence
    assert "output.prometheus_dir" in sentence

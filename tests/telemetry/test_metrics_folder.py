"""A folder of metrics files read as one, by the clock of whoever asks."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stage_a_pipeline.inference.metrics import Progress, Queue, ShardMetrics
from stage_a_pipeline.inference.prometheus import PrometheusFile
from stage_a_pipeline.telemetry.metrics_folder import MetricsFolder
from tests.conftest import BRACKETS, MISSION

UNDER_WAY = Progress(
    20, ShardMetrics(photos=8, inferred=8, seconds=4.0, rejects={"read/truncated": 2}), Queue(3, 4)
)


@pytest.fixture
def left_by_a_kill(tmp_path):
    """The file of a run that never came to its end."""
    file = PrometheusFile(tmp_path, "cpu", [MISSION], pytest.fail)
    file(UNDER_WAY)
    file._write(is_running=True)
    return tmp_path


def samples(text):
    return {
        (
            sample.name,
            *(value for label, value in sample.labels.items() if label not in ("device", "mission")),
        ): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def updated(folder):
    return samples(MetricsFolder(folder).text())["stage_a_updated_timestamp_seconds",]


def test_a_run_under_way_has_a_queue_a_rate_and_an_eta(left_by_a_kill):
    found = samples(MetricsFolder(left_by_a_kill).text())
    assert found["stage_a_running",] == 1
    assert found["stage_a_photos_per_second",] == 2.0
    assert found["stage_a_eta_seconds",] == 6.0
    assert [found["stage_a_queue_photos", state] for state in ("ready", "under_way", "to_come")] == [3, 4, 5]
    assert found["stage_a_rejects_total", "truncated", "read"] == 2


def test_of_a_killed_run_the_counts_are_left_and_nothing_that_only_a_run_has(left_by_a_kill):
    later = updated(left_by_a_kill) + 31
    found = samples(MetricsFolder(left_by_a_kill, clock=lambda: later).text())
    assert found["stage_a_running",] == 0
    assert found["stage_a_photos_total", "inferred"] == 8
    told = {name for name, *_ in found}
    assert not {"stage_a_photos_per_second", "stage_a_eta_seconds", "stage_a_queue_photos"} & told


def test_files_of_several_runs_are_one_family_each(tmp_path):
    for mission, device in ((MISSION, "cuda_0"), (MISSION, "cuda_1"), (BRACKETS, "cuda_0")):
        with PrometheusFile(tmp_path, device, [mission], pytest.fail) as file:
            file(UNDER_WAY)
    families = list(text_string_to_metric_families(MetricsFolder(tmp_path).text()))
    assert len({family.name for family in families}) == len(families)
    (photos,) = (family for family in families if family.name == "stage_a_photos_done")
    assert {tuple(sample.labels.values()) for sample in photos.samples} == {
        ("cuda_0", MISSION),
        ("cuda_1", MISSION),
        ("cuda_0", BRACKETS),
    }


def test_a_file_that_cannot_be_read_is_counted_and_hides_no_other(left_by_a_kill):
    (left_by_a_kill / "stage_a_torn.prom").write_text('stage_a_photos_done{device="cpu" 3\n')
    (left_by_a_kill / "stage_a_latin.prom").write_bytes(b"\xff\xfe")
    found = samples(MetricsFolder(left_by_a_kill).text())
    assert found["stage_a_metrics_files_unreadable",] == 2
    assert found["stage_a_photos_done",] == 8


def test_a_folder_that_is_not_there_yet_has_no_runs(tmp_path):
    found = samples(MetricsFolder(tmp_path / "none").text())
    assert found["stage_a_metrics_files_unreadable",] == 0
    assert not any(name.startswith("stage_a_photos") for name, *_ in found)

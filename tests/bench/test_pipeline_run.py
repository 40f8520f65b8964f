"""What is measured of our engines, and what is not."""

from dataclasses import replace

from stage_a_pipeline.bench import pipeline_run
from stage_a_pipeline.bench.contenders import CONTENDERS
from stage_a_pipeline.bench.engine_records import EngineTask
from stage_a_pipeline.bench.photo_files import write_photos
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.engines import device_rows, refill


class Recorder:
    """Repeats work by doing it again, as a CPU can."""

    def record(self, work):
        return work

    def forget(self):
        pass


def test_slots_that_the_warm_up_filled_are_memory_of_the_run(tmp_path, monkeypatch):
    """On CUDA they are kept from batch to batch, and would count as held before."""
    engines, held = [], []
    load_engine, meter = pipeline_run.load_engine, pipeline_run.Meter

    def loaded(*arguments):
        engines.append(load_engine(*arguments))
        return engines[0]

    def started(device):
        held.append(engines[0]._kept_rows)
        return meter(device)

    monkeypatch.setattr(refill, "CPU", replace(refill.CPU, capture=True))
    monkeypatch.setattr(device_rows, "CudaGraphs", Recorder)
    monkeypatch.setattr(pipeline_run, "load_engine", loaded)
    monkeypatch.setattr(pipeline_run, "Meter", started)
    photos = tuple(PlannedPhoto(1, number, (256, 192), 4) for number in (1, 2))
    write_photos(tmp_path / "photos", photos, seed=1)
    task = EngineTask(
        "refill", "builtin", "cpu", 2, 4, None, str(tmp_path / "photos"), photos, str(tmp_path / "scratch")
    )
    run = pipeline_run.run_pipeline(task, CONTENDERS["refill"])
    assert [answer.tokens for answer in run.answers] == [4, 4]
    assert held == [None]

"""Traces of real runs, worker processes included, as a collector gets them."""

import subprocess
import sys
import time
import uuid

import pytest

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.shard import plan_run
from stage_a_pipeline.inference.tracing import StepSpans
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.settings_telemetry import TelemetrySettings
from stage_a_pipeline.telemetry.spans import NO_SPAN, SPAN_NAMES
from stage_a_pipeline.telemetry.traces import Origin, traced
from tests.conftest import MISSION
from tests.telemetry.conftest import PHOTOS

WORK = ("stage_a.shard", "stage_a.worker", "stage_a.work")
PHOTO = (*WORK, "stage_a.ask_photos", "stage_a.photo")


def telemetry(collector, *, ratio=1.0):
    return {"otlp_endpoint": collector.url, "photo_sample_ratio": ratio}


def test_one_trace_shows_the_run_its_worker_process_and_its_photos(runs, collector):
    run_id = str(uuid.uuid4())
    rows, _ = runs.run(runs.task(run_id=run_id, telemetry=telemetry(collector)))
    assert collector.tree() == {
        WORK[:1],
        WORK[:2],
        WORK,
        (*WORK, "stage_a.remembered_photos"),
        (*WORK, "stage_a.wait_for_device"),
        (*WORK, "stage_a.load_model"),
        (*WORK, "stage_a.ask_photos"),
        (*WORK, "stage_a.ask_photos", "stage_a.engine_steps"),
        PHOTO,
        (*PHOTO, "stage_a.read_photo"),
        (*PHOTO, "stage_a.decode_photo"),
        (*PHOTO, "stage_a.answer_photo"),
    }
    # The run's own id, by which it is found in the Dagster UI.
    assert {span.trace_id for span in collector.spans} == {run_id.replace("-", "")}
    assert len(collector.named("stage_a.photo")) == len(rows) == PHOTOS
    (here,), (there,) = (collector.named(name) for name in ("stage_a.shard", "stage_a.work"))
    assert here.resource["service.name"] == there.resource["service.name"] == "stage-a"
    assert here.resource["process.pid"] != there.resource["process.pid"]
    assert here.attributes["stage_a.missions"] == [MISSION]
    assert here.start <= there.start < there.end <= here.end
    assert not any(span.is_failed for span in collector.spans)
    assert {span.name for span in collector.spans} <= set(SPAN_NAMES)
    assert runs.warnings == []


def test_what_the_steps_and_answers_took_stands_in_their_spans(runs, collector):
    rows, metrics = runs.run(runs.task(telemetry=telemetry(collector)))
    (steps,) = collector.named("stage_a.engine_steps")
    assert steps.attributes["stage_a.steps"] == metrics.steps == 3
    assert steps.attributes["stage_a.batch_fill"] == 1.0
    answers = collector.named("stage_a.answer_photo")
    for name, column in (("input", "prompt_tokens"), ("output", "generated_tokens")):
        told = [span.attributes[f"gen_ai.usage.{name}_tokens"] for span in answers]
        assert (
            sum(told) == sum(row[column] for row in rows) == steps.attributes[f"gen_ai.usage.{name}_tokens"]
        )
    assert {tuple(span.attributes["gen_ai.response.finish_reasons"]) for span in answers} == {("stop",)}


def test_no_span_holds_what_a_model_said(runs, collector):
    rows, _ = runs.run(runs.task(telemetry=telemetry(collector)))
    told = str([(span.attributes, span.resource) for span in collector.spans])
    assert not any(row["raw_text"] in told for row in rows)
    assert "统计" not in told
    assert str(runs.folder) not in told


def test_rejected_photos_and_dead_workers_are_failed_spans(runs, collector):
    (runs.folder / "in" / MISSION / "审核通过" / "QC-20241028-pass002" / "IMG_1.jpg").write_bytes(b"no photo")
    faults = (
        '[[fault]]\nmatch = "QC-20241028-fail001/IMG_1*"\nkind = "empty"\n'
        '[[fault]]\nmatch = "QC-20241028-fail002/IMG_1*"\nkind = "kill"\n'
    )
    rows, _ = runs.run(runs.task(faults=faults, telemetry=telemetry(collector)))
    reasons = sorted(row["reason"] for row in rows if row["status"] == "rejected")
    assert reasons == ["crashed", "empty", "not_an_image"]
    failed = [span for span in collector.named("stage_a.photo") if span.is_failed]
    assert set(reasons) <= {span.attributes["error.type"] for span in failed}
    workers = collector.named("stage_a.worker")
    assert [span.attributes.get("error.type") for span in workers] == ["worker_died", "worker_died", None]
    assert len({span.trace_id for span in collector.spans}) == 1


def test_a_share_of_the_photos_has_spans_and_it_is_always_the_same(runs, collector):
    names = []
    for number in range(2):
        output = {"output_dir": runs.folder / f"out{number}"}
        runs.run(runs.task(output=output, telemetry=telemetry(collector, ratio=0.5)))
        names.append({span.attributes["stage_a.photo"] for span in collector.named("stage_a.photo")})
        collector.spans.clear()
    assert names[0] == names[1]
    assert 0 < len(names[0]) < PHOTOS


def test_a_run_without_worker_processes_is_traced_as_well(runs, collector):
    here = {"worker_processes": False}
    runs.run(runs.task(inference=here, telemetry=telemetry(collector, ratio=0.0)))
    asking = ("stage_a.shard", "stage_a.ask_photos")
    assert {asking, (*asking, "stage_a.engine_steps")} < collector.tree()
    assert collector.named("stage_a.photo") == []


def test_the_usual_variables_name_the_service(runs, collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "night-shift")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    runs.run(runs.task(telemetry=telemetry(collector)))
    assert {span.resource["service.name"] for span in collector.spans} == {"night-shift"}
    assert {span.resource["deployment.environment.name"] for span in collector.spans} == {"test"}


def down(collector):
    collector.url = "http://127.0.0.1:9"


def failing(collector):
    collector.status = 503


def stuck(collector):
    collector.seconds = 60.0


@pytest.mark.parametrize(("trouble", "processes"), [(down, 2), (failing, 1), (stuck, 1)])
def test_a_collector_in_trouble_is_told_once_per_process_and_stops_nothing(
    runs, collector, trouble, processes
):
    trouble(collector)
    started = time.monotonic()
    here = {"worker_processes": processes == 2}
    rows, _ = runs.run(runs.task(inference=here, telemetry=telemetry(collector)))
    assert len(rows) == PHOTOS
    # Each process waits at its end, for one batch of spans.
    assert time.monotonic() - started < 30
    assert len(runs.warnings) == processes
    assert all("takes no spans; the run goes on" in warning for warning in runs.warnings)


def test_an_endpoint_without_the_extra_says_what_to_install(monkeypatch, collector):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "stage_a_pipeline.telemetry.otlp", raising=False)
    settings = TelemetrySettings(otlp_endpoint=collector.url)
    with (
        pytest.raises(ConfigurationError, match=r"pip install '\.\[otel\]'"),
        traced(settings, Origin("run"), "stage_a.shard", {}, pytest.fail),
    ):
        pass


def test_nothing_of_opentelemetry_is_imported_where_nothing_is_traced():
    program = (
        "import sys\n"
        "from stage_a_pipeline.inference import supervision, worker\n"
        "from stage_a_pipeline.settings_telemetry import TelemetrySettings\n"
        "from stage_a_pipeline.telemetry.traces import Origin, traced\n"
        "with traced(TelemetrySettings(), Origin('run'), 'a', {}, print) as span:\n"
        "    assert not span.is_recorded\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


class Heard:
    """A parent that counts its children."""

    is_recorded = True
    traceparent = None

    def __init__(self):
        self.children = []

    def child(self, name, attributes=None):
        self.children.append(name)
        return UnseenChild()


class UnseenChild(type(NO_SPAN)):
    """One that is open, unlike NO_SPAN."""


@pytest.mark.parametrize(("steps", "spans"), [(1, 1), (100, 1), (101, 2), (1000, 10)])
def test_the_number_of_step_spans_is_bounded_by_time(steps, spans):
    parent, now = Heard(), [0.0]
    told = StepSpans(parent, ShardMetrics(), clock=lambda: now[0], seconds=10.0)
    for _ in range(steps):
        told.begin()
        now[0] += 0.1001
        told.end()
    told.close()
    assert len(parent.children) == spans


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("127.0.0.1:4318", "must be a URL"),
        ("ftp://host", "must be a URL"),
        ("http://user:secret@host:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://host:4318?token=secret", "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_an_endpoint_is_a_url_without_secrets(endpoint, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_settings(environ={}, overrides={"telemetry": {"otlp_endpoint": endpoint}})
    assert "secret@" not in str(caught.value)


def test_telemetry_is_no_part_of_how_answers_were_made(runs, collector):
    plain, watched = runs.task(), runs.task(telemetry=telemetry(collector) | {"prometheus_port": 9464})
    plans = [plan_run(task.shard.recipes[MISSION], task.shard.settings) for task in (plain, watched)]
    assert plans[0] == plans[1]
    assert "telemetry" in Settings.model_fields

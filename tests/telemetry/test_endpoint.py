"""Metrics over HTTP while real runs go on, one port for all of them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import URLError

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from stage_a_pipeline.inference import prometheus
from stage_a_pipeline.inference.task_files import write_task
from stage_a_pipeline.telemetry.endpoint import MetricsEndpoint
from tests.telemetry.conftest import PHOTOS, free_port


def scraped(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def eventually(found, seconds=30.0):
    """What `found` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := found():
                return value
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError("it never came")


def value(text, name):
    found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", text, re.M)
    return None if found is None else float(found[1])


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(prometheus, "EVERY_SECONDS", 0.1)


def test_a_run_under_way_is_scraped(runs, port, often):
    task = runs.task(faults="seconds_per_batch = 1.0\n", telemetry={"prometheus_port": port})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runs.run, task)

        def under_way():
            text = scraped(port)
            return text if (value(text, "stage_a_photos_done") or 0) > 0 else None

        text = eventually(under_way)
        assert value(text, "stage_a_running") == 1
        assert value(text, "stage_a_photos_planned") == PHOTOS
        assert value(text, "stage_a_eta_seconds") > 0
        # Told before a step: it is what the engine works on now.
        eventually(lambda: re.search(r'queue_photos{.*state="under_way"} 4.0', scraped(port)))
        running.result()
    with pytest.raises(URLError):
        scraped(port)
    folder = runs.folder / "out" / "work" / "metrics"
    (file,) = folder.iterdir()
    assert value(file.read_text("utf-8"), "stage_a_running") == 0
    assert value(file.read_text("utf-8"), "stage_a_photos_per_second") == 0
    assert value(file.read_text("utf-8"), "stage_a_photos_done") == PHOTOS
    assert runs.warnings == []


def test_several_share_one_port_and_it_passes_on(tmp_path, port):
    told = []
    with MetricsEndpoint(tmp_path, "127.0.0.1", port, told.append) as second_holder:
        assert second_holder.is_serving
        waiting = MetricsEndpoint(tmp_path, "127.0.0.1", port, told.append)
        waiting.offer()
        assert not waiting.is_serving
    with waiting:
        assert "stage_a_metrics_folder_info" in scraped(port)
    assert told == []


class Silent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_a_port_that_somebody_else_has_is_told_once_and_stops_nothing(runs, often):
    with HTTPServer(("127.0.0.1", 0), Silent) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        here = {"worker_processes": False}
        telemetry = {"prometheus_port": stranger.server_port}
        faults = "seconds_per_batch = 0.2\n"
        rows, _ = runs.run(runs.task(faults=faults, inference=here, telemetry=telemetry))
        stranger.shutdown()
    assert len(rows) == PHOTOS
    (warning,) = runs.warnings
    assert "cannot be served on 127.0.0.1" in warning
    assert "telemetry.prometheus_port" in warning


def test_a_port_of_another_folder_is_somebody_elses(tmp_path, port):
    told = []
    with MetricsEndpoint(tmp_path / "one", "127.0.0.1", port, told.append):
        MetricsEndpoint(tmp_path / "two", "127.0.0.1", port, told.append).offer()
    assert len(told) == 1


SCRIPT = """
import sys
from pathlib import Path
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import read_task
folder = Path(sys.argv[1])
run_task(read_task(folder), [], folder / "again", Audience(None, print, print))
"""


def test_the_command_serves_what_a_killed_run_left(runs, port):
    metrics = runs.folder / "metrics"
    write_task(
        runs.folder / "given",
        runs.task(faults="seconds_per_batch = 30.0\n", output={"prometheus_dir": metrics}),
    )
    command = [sys.executable, "-m", "stage_a_pipeline.cli", "metrics", "--dir", metrics, "--port", str(port)]
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, runs.folder / "given"], stdout=subprocess.DEVNULL)
    code = "from stage_a_pipeline.cli import main; main()"
    server = subprocess.Popen([sys.executable, "-c", code, *command[3:]], stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: value(scraped(port), "stage_a_running") == 1)
        run.kill()
        run.wait()
        (file,) = metrics.iterdir()
        stopped = re.sub(r"(stage_a_updated_timestamp_seconds\S+) \S+", r"\1 1000.0", file.read_text("utf-8"))
        file.write_text(stopped, "utf-8")
        text = scraped(port)
        assert value(text, "stage_a_running") == 0
        assert value(text, "stage_a_photos_planned") == PHOTOS
        assert value(text, "stage_a_eta_seconds") is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 130
        assert f"serving the metrics of {metrics} on http://127.0.0.1:{port}" in server.stdout.read()
    finally:
        run.kill()
        server.kill()
        server.stdout.close()


def test_the_command_prints_them_once(runs):
    runs.run(runs.task(inference={"worker_processes": False}, output={"prometheus_dir": runs.folder / "m"}))
    shown = CliRunner().invoke(main, ["metrics", "--once", "--dir", os.fspath(runs.folder / "m")])
    assert shown.exit_code == 0, shown.output
    assert value(shown.output, "stage_a_photos_done") == PHOTOS

"""The Dagster UI as people use it: a real `dagster dev`, GraphQL, and a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest

from stage_a_pipeline.jsonl import output_paths
from tests.conftest import BRACKETS, write_groups

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ASSETS = [
    "image_groups", "sampled_groups", "stage_a_summaries", "clean_summaries", "fail_reasons",
    "enriched_records", "stage_a_jsonl",
]  # fmt: skip
LAUNCH = """
mutation Launch($execution: ExecutionParams!) {
  launchPipelineExecution(executionParams: $execution) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Server:
    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, query: str, **variables: object) -> dict:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["data"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_up(server: Server, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.query("{ version }")
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"dagster dev did not come up:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    write_groups(folder / "in", BRACKETS, {"fail": [2, 1], "pass": [3]})
    (folder / "settings.toml").write_text(
        f'[discovery]\ninput_root = "{folder}/in"\n[output]\noutput_dir = "{folder}/out"\n'
        f'[engine]\nengine = "fake"\nbatch_size = 4\n[inference]\nlease_dir = "{folder}/leases"\n'
    )
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    return folder


@pytest.fixture(scope="module")
def server(workplace):
    port = free_port()
    log = workplace / "dagster.log"
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("STAGE_A_", "DAGSTER_"))
        },
        "STAGE_A_SETTINGS": str(workplace / "settings.toml"),
        "DAGSTER_HOME": str(workplace / "home"),
    }
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "dev", "-m", "stage_a_pipeline.definitions", "-h", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=workplace,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}")
    try:
        wait_until_up(server, process, log)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def launch(server: Server, mission: str) -> str:
    location = server.query("{ workspaceOrError { ... on Workspace { locationEntries { name } } } }")[
        "workspaceOrError"
    ]["locationEntries"][0]["name"]
    execution = {
        "selector": {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [name]} for name in ASSETS],
        },
        "mode": "default",
        "runConfigData": "{}",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": mission}]},
    }
    launched = server.query(LAUNCH, execution=execution)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return launched["run"]["runId"]


def wait_for(server: Server, run_id: str, seconds: float = 180) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = server.query(STATUS, id=run_id)["runOrError"]["status"]
        if status in ("SUCCESS", "FAILURE", "CANCELED"):
            return status
        time.sleep(0.5)
    return "TIMEOUT"


@pytest.fixture(scope="module")
def materialised(server, workplace):
    status = wait_for(server, launch(server, BRACKETS))
    assert status == "SUCCESS", (workplace / "dagster.log").read_text()[-3000:]
    return server


def test_a_partition_launched_through_graphql_is_published(materialised, workplace):
    assert output_paths(workplace / "out", BRACKETS).jsonl.exists()


@pytest.mark.browser
def test_the_asset_page_shows_the_partition_and_its_figures(materialised, workplace):
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    partition = urllib.parse.quote(BRACKETS)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = chromium.new_page(viewport={"width": 1500, "height": 1100})
        page.goto(f"{materialised.url}/assets/stage_a_summaries?view=partitions&partition={partition}")
        page.get_by_text("images_per_second").first.wait_for(timeout=60_000)
        page.get_by_text(BRACKETS).first.wait_for()
        page.goto(f"{materialised.url}/assets/stage_a_jsonl?view=partitions&partition={partition}")
        page.get_by_text(f"{BRACKETS}_stage_a.jsonl").first.wait_for(timeout=60_000)
        page.screenshot(path=str(workplace / "stage_a_jsonl.png"))
        chromium.close()


def test_the_demo_s_interface_stops_with_its_command_and_leaves_nothing_running(workplace):
    port, log = free_port(), workplace / "demo_ui.log"
    stage_a = str(Path(sys.executable).with_name("stage-a"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [stage_a, "demo", "ui", "--dir", str(workplace), "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(Server(f"http://127.0.0.1:{port}"), process, log)
        process.terminate()
        process.wait(60)
        # Code servers go a moment after the command.
        assert not psutil.wait_procs(in_session(process.pid), timeout=60)[1]
    finally:
        for left in in_session(process.pid):
            left.kill()


def in_session(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                found.append(process)
        except ProcessLookupError:
            continue
    return found

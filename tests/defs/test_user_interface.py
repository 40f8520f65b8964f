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
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.stage_b.run_folder import RunFolder
from stage_a_pipeline.storage import device_lease
from tests.conftest import BRACKETS, MISSION, write_groups

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
REEXECUTE = """
mutation Again($parameters: ReexecutionParams!) {
  launchPipelineReexecution(reexecutionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
TERMINATE = "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename } }"
STEPS = """
query Steps($id: ID!) {
  runOrError(runId: $id) { ... on Run { stepStats { stepKey status } } }
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
    write_groups(folder / "in", MISSION, {"fail": [1], "pass": [2]}, first_seed=70)
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


def launch(server: Server, mission: str, **settings: object) -> str:
    """Start the run of a mission's partition, as the UI does; returns its id."""
    tags = [{"key": "dagster/partition", "value": mission}]
    return launch_job(
        server, "__ASSET_JOB", settings, tags, assetSelection=[{"path": [name]} for name in ASSETS]
    )


def launch_job(
    server: Server, job: str, settings: Mapping[str, object], tags: Sequence[object] = (), **selection: object
) -> str:
    location = server.query("{ workspaceOrError { ... on Workspace { locationEntries { name } } } }")[
        "workspaceOrError"
    ]["locationEntries"][0]["name"]
    execution = {
        "selector": {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "pipelineName": job,
            **selection,
        },
        "mode": "default",
        "runConfigData": json.dumps({"resources": {"settings": {"config": settings}}}),
        "executionMetadata": {"tags": list(tags)},
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


def faults(workplace, text):
    path = workplace / "faults.toml"
    path.write_text(text)
    return str(path)


def workers(workplace):
    """Worker processes whose task lies below the workplace."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "stage_a_pipeline.inference.worker" in (process.info["cmdline"] or ())
        and any(str(workplace) in argument for argument in process.info["cmdline"])
    ]


def trainings(workplace):
    """Processes that train with the workplace's settings."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if "stage_a_pipeline.stage_b.process" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("DAGSTER_HOME") == str(workplace / "home")
    ]


def test_a_run_that_is_cancelled_ends_its_workers_and_keeps_what_is_finished(server, workplace):
    output = workplace / "cancelled"
    settings = {
        "engine": {"batch_size": 1, "fake_faults": faults(workplace, "seconds_per_photo = 2.0")},
        "output": {"output_dir": str(output)},
    }
    run_id = launch(server, BRACKETS, **settings)
    journal = output / "work" / "journal" / BRACKETS / "cpu.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n")) and time.monotonic() < deadline:
        time.sleep(0.1)
    (worker,) = workers(workplace)
    server.query(TERMINATE, id=run_id)
    assert wait_for(server, run_id, 60) == "CANCELED"
    assert not psutil.wait_procs([worker], timeout=15)[1]
    with device_lease(workplace / "leases", "cpu", on_wait=pytest.fail):
        pass
    finished = journal.read_bytes().count(b"\n")
    assert 1 <= finished < 6
    assert not output_paths(output, BRACKETS).jsonl.exists()
    settings["engine"]["fake_faults"] = faults(workplace, "")
    assert wait_for(server, launch(server, BRACKETS, **settings)) == "SUCCESS"
    assert journal.read_bytes().count(b"\n") == 6, "no finished photo is asked again"


def test_a_training_that_is_cancelled_ends_its_process_and_can_go_on(server, workplace):
    output = workplace / "training"
    delivered = output_paths(output, BRACKETS).jsonl
    delivered.parent.mkdir()
    tickets = [
        {"mission": BRACKETS, "group_id": f"QC-{n}", "label": ("pass", "fail")[n % 2], "images": ["1.jpg"],
         "per_image": {"image_1": "无关图片"}}
        for n in range(20)
    ]  # fmt: skip
    delivered.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in tickets), "utf-8")
    settings = {
        "engine": {"engine": "refill"},
        "output": {"output_dir": str(output)},
        "grpo": {
            "max_steps": 500,
            "save_steps": 1,
            "num_generations": 2,
            "max_new_tokens": 4,
            "warmup_steps": 0,
        },
    }
    run_id = launch_job(server, "stage_b", settings)
    deadline = time.monotonic() + 90
    while not list(output.glob("stage_b/runs/*/checkpoints/*/whole")) and time.monotonic() < deadline:
        time.sleep(0.1)
    (training,) = trainings(workplace)
    server.query(TERMINATE, id=run_id)
    assert wait_for(server, run_id, 60) == "CANCELED"
    assert not psutil.wait_procs([training], timeout=15)[1]
    with device_lease(workplace / "leases", "cpu", on_wait=pytest.fail):
        pass
    (run,) = (output / "stage_b" / "runs").iterdir()
    assert RunFolder(output / "stage_b", run.name).last_checkpoint() is not None
    assert not (run / "adapter").exists()


def test_a_re_execution_from_failure_runs_the_failed_shard_only(server, workplace):
    settings = {
        "engine": {
            "devices": ["cpu", "cpu"],
            "fake_faults": faults(workplace, '[[fault]]\nmatch = "*/IMG_3.jpg*"\nkind = "too_few"'),
        },
        "inference": {"sharding_mode": "per_image"},
        "output": {"output_dir": str(workplace / "again")},
    }
    failed = launch(server, BRACKETS, **settings)
    assert wait_for(server, failed) == "FAILURE"
    faults(workplace, "")
    parameters = {"parentRunId": failed, "strategy": "FROM_FAILURE"}
    again = server.query(REEXECUTE, parameters=parameters)["launchPipelineReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    run_id = again["run"]["runId"]
    assert wait_for(server, run_id) == "SUCCESS"
    before, after = (
        {step["stepKey"]: step["status"] for step in server.query(STEPS, id=run)["runOrError"]["stepStats"]}
        for run in (failed, run_id)
    )
    shards = {key: status for key, status in before.items() if "summarise_shard" in key}
    assert sorted(shards.values()) == ["FAILURE", "SUCCESS"]
    assert [key for key in after if "summarise_shard" in key] == [
        key for key, status in shards.items() if status == "FAILURE"
    ]
    assert not any("plan_shards" in key or key == "image_groups" for key in after)
    assert output_paths(workplace / "again", BRACKETS).jsonl.exists()


@pytest.fixture
def page():
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = chromium.new_page(viewport={"width": 1500, "height": 1100})
        page.set_default_timeout(60_000)
        yield page
        chromium.close()


@pytest.mark.browser
def test_by_clicks_a_mission_is_materialised_watched_its_check_opened_and_a_photo_looked_at(
    server, workplace, page
):
    page.goto(f"{server.url}/locations/stage_a_pipeline.definitions/jobs/stage_a_mission")
    page.get_by_role("button", name="Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text(MISSION, exact=True).locator("visible=true").last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()

    page.locator("a[href^='/runs/']:visible").first.click()
    page.wait_for_url("**/runs/*")
    page.get_by_placeholder("Filter…").fill("of 3 photos")
    page.get_by_text("photos/s").first.wait_for()
    page.get_by_text("Success", exact=True).first.wait_for()

    page.goto(f"{server.url}/assets/stage_a_jsonl?view=checks")
    page.get_by_text("counts_agree").first.click()
    page.get_by_text("2 discovered = 0 sampled out + 2 written + 0 rejected; 2 lines").first.wait_for()

    partition = urllib.parse.quote(MISSION)
    page.goto(f"{server.url}/assets/sampled_groups?view=partitions&partition={partition}")
    page.get_by_text("[Show Markdown]").first.click()
    photo = page.locator("img[alt=photo]").first
    photo.wait_for()
    assert photo.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.browser
def test_the_asset_page_shows_the_partition_and_its_figures(materialised, workplace, page):
    partition = urllib.parse.quote(BRACKETS)
    page.goto(f"{materialised.url}/assets/stage_a_summaries?view=partitions&partition={partition}")
    page.get_by_text("images_per_second").first.wait_for()
    page.get_by_text(BRACKETS).first.wait_for()
    page.goto(f"{materialised.url}/assets/stage_a_jsonl?view=partitions&partition={partition}")
    page.get_by_text(f"{BRACKETS}_stage_a.jsonl").first.wait_for()
    page.screenshot(path=str(workplace / "stage_a_jsonl.png"))


def test_the_demo_s_interface_stops_with_its_command_and_leaves_nothing_running(workplace, monkeypatch):
    # What the README has people export is not the demo's.
    monkeypatch.setenv("STAGE_A_OUTPUT_DIR", "/nowhere")
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
        assert "STAGE_A_OUTPUT_DIR" not in psutil.Process(process.pid).environ()
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

"""The services of deploy/compose.yaml as processes: their commands, their files, and a PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage

from stage_a_pipeline.jsonl import output_paths
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.defs.conftest import materialiser
from tests.defs.test_user_interface import Server, free_port, in_session, launch, wait_for, wait_until_up
from tests.deploy.conftest import DEPLOY, ROOT
from tests.postgres import dagster_home, postgres_server

BIN = Path(sys.executable).parent
PLACES = {
    "/opt/dagster/workspace.yaml": str(DEPLOY / "workspace.yaml"),
    "0.0.0.0": "127.0.0.1",
    "python": sys.executable,
}
"""What is elsewhere outside of a container."""


class Services:
    """Processes that run what the containers would, each with its log."""

    def __init__(self, folder: Path, database: Mapping[str, str]) -> None:
        self.folder = folder
        self.log = folder / "services.log"
        self.ports = {"4000": str(free_port()), "3000": str(free_port())}
        self.home = dagster_home(folder / "home")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STAGE_A_")}
        self.environment = {
            **inherited,
            **database,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.home),
            "CODE_HOST": "127.0.0.1",
            "CODE_PORT": self.ports["4000"],
            "STAGE_A_SETTINGS": str(folder / "settings.toml"),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def here(self, words: Sequence[str]) -> list[str]:
        """A container's command with the paths, the port and the address of this test."""
        for inside, outside in self.ports.items():
            words = [word.replace(f":{inside}/", f":{outside}/") for word in words]
        known = PLACES | self.ports
        return [known.get(word, word) for word in words]

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.here(words),
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def healthy(self, words: Sequence[str], seconds: float = 60) -> bool:
        """Whether a health check succeeds within the time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            check = subprocess.run(
                self.here(words), env=self.environment, cwd=self.folder, capture_output=True, check=False
            )
            if check.returncode == 0:
                return True
            # Each is a process with seconds of imports, beside what it waits for.
            time.sleep(1)
        return False

    def stop(self) -> list[psutil.Process]:
        """SIGTERM for all services, as Docker stops them; what is still there afterwards."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(30)
        left = [member for process in self._started for member in in_session(process.pid)]
        return psutil.wait_procs(left, timeout=15)[1]

    def clear_up(self) -> None:
        for process in self._started:
            for member in in_session(process.pid):
                member.kill()
            process.wait()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1], "pass": [2, 4]})
    write_groups(tmp_path / "in", BRACKETS, {"fail": [2], "pass": [1]}, first_seed=100)
    (tmp_path / "settings.toml").write_text(
        f'[discovery]\ninput_root = "{tmp_path}/in"\n[output]\noutput_dir = "{tmp_path}/out"\n'
        f'[engine]\nengine = "fake"\nbatch_size = 4\n[inference]\nlease_dir = "{tmp_path}/leases"\n'
        "worker_processes = false\n"
    )
    with postgres_server() as database:
        services = Services(tmp_path, database.create_database("services"))
        try:
            yield services
        finally:
            services.clear_up()


def test_the_services_record_two_runs_at_once_in_postgresql_and_publish_the_same_bytes(
    services, image, compose, tmp_path
):
    containers = compose["services"]
    services.start(image.command("CMD"))
    assert services.healthy(image.command("HEALTHCHECK")), services.log.read_text()
    services.start(containers["daemon"]["command"])
    web = services.start(containers["web"]["command"])
    server = Server(f"http://127.0.0.1:{services.ports['3000']}")
    wait_until_up(server, web, services.log)
    assert services.healthy(containers["web"]["healthcheck"]["test"][1:])

    runs = [launch(server, mission) for mission in (MISSION, BRACKETS)]
    assert [wait_for(server, run) for run in runs] == ["SUCCESS", "SUCCESS"], services.log.read_text()[-5000:]
    assert services.healthy(containers["daemon"]["healthcheck"]["test"][1:])

    materialise = materialiser(tmp_path / "alone")
    for mission in (MISSION, BRACKETS):
        materialise(tmp_path / "in", mission)
        expected = output_paths(tmp_path / "alone" / "out", mission)
        published = output_paths(tmp_path / "out", mission)
        assert published.jsonl.read_bytes() == expected.jsonl.read_bytes()
        assert published.rejected.read_bytes() == expected.rejected.read_bytes()
    assert recorded_missions(services) == {MISSION, BRACKETS}
    assert not services.stop(), "no process stays"


def recorded_missions(services: Services) -> set[str | None]:
    """The missions whose delivered file the database, and nothing else, has an event of."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in services.environment.items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(services.home)) as instance:
            assert isinstance(instance.run_storage, PostgresRunStorage)
            assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
            found = instance.fetch_materializations(dg.AssetKey("stage_a_jsonl"), limit=10)
            assert not list(services.home.rglob("*.db"))
            return {record.partition_key for record in found.records}

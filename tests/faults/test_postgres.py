"""Dagster's records in PostgreSQL, by the documented dagster.yaml, and a server that dies under a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from tests.conftest import BRACKETS, MISSION
from tests.faults.conftest import PHOTOS, Ended, Workplace, finish, workers_of
from tests.postgres import PostgresServer, dagster_home, postgres_server

TRIES = 6
"""How often Dagster tries to reach its database, in about eleven seconds, before what it does fails.

A line of the log that is lost then fails nothing; the next event does.
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def home(workplace: Workplace, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME whose records are in a database of its own; later commands use it."""
    home = dagster_home(workplace.folder / "home")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for name, value in server.create_database(f"test_{os.urandom(4).hex()}").items():
        monkeypatch.setenv(name, value)
    return home


def materialise(workplace: Workplace, mission: str) -> psutil.Popen:
    """Dagster's own command, for every asset of a mission up to its delivery."""
    module = ("-m", "stage_a_pipeline.definitions")
    return workplace.start(
        "dagster", "asset", "materialize", *module, "--select", "group:stage_a", "--partition", mission
    )


def refused(ended: Ended, server: PostgresServer) -> bool:
    """Whether a command failed and named the server, without its password."""
    cause = f'connection to server at "127.0.0.1", port {server.port} failed'
    return ended.code == 1 and cause in ended.output and server.password not in ended.output


def wait_for_tries(run: psutil.Popen, count: int) -> str:
    """What a run says until it has tried so many times in vain to reach its database."""
    told = []
    for line in run.stdout:
        told.append(line)
        count -= "Retrying failed database connection" in line
        if not count:
            break
    assert not count, "".join(told)
    return "".join(told)


def recorded(home: Path) -> list[str]:
    """How the runs ended that the database knows, the latest last."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [run.status.value for run in instance.get_runs(ascending=True)]


def test_a_database_that_stays_away_fails_the_run_and_the_next_one_goes_on(
    workplace, server, home, undisturbed
):
    workplace.configure("seconds_per_photo = 0.2\n")
    run = materialise(workplace, MISSION)
    workplace.wait_for_answers(PHOTOS - 10, run)
    workers = workers_of(run)
    server.kill()
    late = materialise(workplace, BRACKETS)
    try:
        told = wait_for_tries(run, 2 * TRIES)
        assert refused(finish(late), server)
    finally:
        server.start()
    ended = finish(run)
    assert refused(Ended(ended.code, told + ended.output), server)
    assert not psutil.wait_procs(workers, timeout=15)[1], "no process of the run stays"
    assert not workplace.jsonl.exists()
    assert recorded(home) == ["FAILURE"]
    finished, asked = workplace.answers().total(), len(workplace.asked())
    assert finished >= PHOTOS - 10

    workplace.configure()
    again = workplace.run_here()
    assert again.code == 0, again.output
    assert workplace.published() == undisturbed.published()
    assert len(workplace.asked()) - asked == PHOTOS - finished, "no finished photo is asked again"
    assert recorded(home) == ["FAILURE", "SUCCESS"]


def test_a_server_whose_certificate_cannot_be_checked_is_refused_where_it_is_to_be(home, monkeypatch):
    document = yaml.safe_load((home / "dagster.yaml").read_text("utf-8"))
    settings = document["storage"]["postgres"]["postgres_db"]
    given = {
        key: os.environ[value["env"]] if isinstance(value, dict) else value for key, value in settings.items()
    }
    engine = create_engine(pg_url_from_config({"postgres_db": given}))
    engine.connect().close()
    engine.dispose()
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with pytest.raises(OperationalError, match="server does not support SSL, but SSL was required"):
        engine.connect()

"""A PostgreSQL server for tests, from Debian's packages, on loopback, that is killed when they say so."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

SUPERUSER = "stage_a"
DEPLOY = Path(__file__).parents[1] / "deploy"


class PostgresServer:
    """One cluster in a folder of its own; it goes on where it stopped when it is started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.password = secrets.token_urlsafe(24)
        self.port = _free_port()
        self._programs = programs
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "server.log").open("ab")
        password_file = folder / "password"
        password_file.write_text(self.password)
        if (account := _account()) is not None:
            for path in (folder, password_file):
                shutil.chown(path, account)
        options = [f"--username={SUPERUSER}", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        self._start("initdb", f"--pgdata={self._data}", "--no-sync", "--encoding=UTF8", *options).wait()
        password_file.unlink()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert self._process is None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._start("postgres", "-D", str(self._data), *given)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg2.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start:\n{(self._folder / 'server.log').read_text()}")
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL for the server and all its processes, at one moment, as a power cut does."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        # Not its process group: each of PostgreSQL's processes has a session of its own.
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(processes, timeout=30)
        self._process = None

    def stop(self) -> None:
        """End it, if it is up, and close its log."""
        if self._process is not None:
            self.kill()
        self._log.close()

    def connect(self, database: str) -> Any:
        """A connection as the owner of everything."""
        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user=SUPERUSER, password=self.password, dbname=database
        )

    def create_database(self, name: str) -> Mapping[str, str]:
        """A new database, as the variables that deploy/dagster.yaml reads."""
        with closing(self.connect("postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        return {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_DB": name,
            "DAGSTER_PG_USERNAME": SUPERUSER,
            "DAGSTER_PG_PASSWORD": self.password,
        }

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            user=_account(),
            group=_account(),
            extra_groups=[] if _account() else None,
            cwd=self._folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; skips the test where none is installed."""
    programs = _programs()
    # Not pytest's folder: that one is for its owner alone, and the server must not be root.
    folder = Path(tempfile.mkdtemp(prefix="stage-a-postgres-"))
    server = PostgresServer(programs, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def dagster_home(folder: Path) -> Path:
    """A DAGSTER_HOME with the documented dagster.yaml, as it is."""
    folder.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", folder)
    return folder


def _programs() -> Path:
    """Where initdb and postgres are: Debian keeps them off the PATH, one folder per version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which("initdb")
    if program is None:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    return Path(program).resolve().parent


def _account() -> str | None:
    """PostgreSQL refuses to run as root: Debian's package makes a user for it."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

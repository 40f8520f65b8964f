"""A workplace: photos, settings, and the real command that is started there, disturbed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from click.testing import CliRunner

# Partitions are read from the settings when this is imported: here, no test has set any.
import stage_a_pipeline.defs.launch  # noqa: F401
from stage_a_pipeline.cli import main
from stage_a_pipeline.jsonl import output_paths, read_records
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.settings import SETTINGS_VARIABLE
from tests.conftest import LABEL_FOLDERS, MISSION, write_groups
from tests.stage_b.trained import trained  # noqa: F401 - a fixture

BIN = Path(sys.executable).parent
BATCH = 2
SIZES = {"fail": [3, 1, 4, 2, 5], "pass": [4, 2, 3, 5, 1]}
PHOTOS = 30
HERE = {"worker_processes": False}
"""For runs in which the worker's process is not the point."""


class Ended(NamedTuple):
    """How a command ended, and all it said, on one line."""

    code: int
    output: str


class Workplace:
    """One folder with photos in `in`, results in `out`, and the settings of the next run."""

    out: Path

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.root = folder / "in"
        self.asked_file = folder / "asked.txt"
        self.faults_file = folder / "faults.toml"
        self.settings_file = folder / "settings.toml"
        self._settings_here = folder / "settings_here.toml"
        self._monkeypatch = monkeypatch
        self._started: list[psutil.Popen] = []
        self.configure()

    def configure(self, faults: str = "", **sections: Mapping[str, Any]) -> None:
        """Write settings for the fake engine with these faults; sections come on top."""
        self.faults_file.write_text(f'asked_file = "asked.txt"\n{faults}', "utf-8")
        settings: dict[str, dict[str, Any]] = {
            "discovery": {"input_root": "in"},
            "engine": {"engine": "fake", "batch_size": BATCH, "fake_faults": "faults.toml"},
            "inference": {"lease_dir": "leases"},
            "output": {"output_dir": "out"},
        }
        for section, values in sections.items():
            settings[section] = settings.get(section, {}) | dict(values)
        self.out = self.folder / settings["output"]["output_dir"]
        self._write(self.settings_file, settings)
        self._write(self._settings_here, settings | {"inference": HERE | settings["inference"]})

    def _write(self, file: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
        file.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
                for section, values in settings.items()
            ),
            "utf-8",
        )

    def start(self, *command: str) -> psutil.Popen:
        """Start `stage-a materialize`, or another command of the environment, in a group of its own."""
        name, *arguments = command or ("stage-a", "materialize", "--mission", MISSION)
        process = psutil.Popen(
            [str(BIN / name), *arguments],
            cwd=self.folder,
            env=os.environ | {SETTINGS_VARIABLE: str(self.settings_file), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self) -> Ended:
        """`stage-a materialize` from start to end, in a process of its own."""
        return finish(self.start())

    def run_here(self, *, workers: bool = False) -> Ended:
        """The same in this process, without the seconds that a process takes to start.

        Nor is one started for each device, unless the settings ask for it, or `workers` are what it is about.
        """
        chosen = self.settings_file if workers else self._settings_here
        self._monkeypatch.setenv(SETTINGS_VARIABLE, str(chosen))
        self._monkeypatch.chdir(self.folder)
        result = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["materialize", "--mission", MISSION])
        return Ended(result.exit_code, _on_one_line(result.output))

    def published(self) -> tuple[bytes, bytes]:
        """The delivered JSONL and the rejected lines."""
        paths = output_paths(self.out, MISSION)
        return paths.jsonl.read_bytes(), paths.rejected.read_bytes()

    @property
    def jsonl(self) -> Path:
        return output_paths(self.out, MISSION).jsonl

    def records(self) -> dict[str, GroupRecord]:
        """The delivered records by group id."""
        return {record.group_id: record for record in read_records(self.jsonl)}

    def rejected(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The rejected lines by group id and photo."""
        lines = output_paths(self.out, MISSION).rejected.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return {(row["group_id"], row["image"]): row for row in rows}

    @property
    def journal(self) -> Path:
        return self.out / "work" / "journal" / MISSION

    def lines(self) -> list[dict[str, Any]]:
        """What the journals hold; a line that is being written does not count."""
        lines = [line for path in self.journal.glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def answers(self) -> Counter[str]:
        """How often the journals hold an answer to each photo."""
        return Counter(row["photo"] for row in self.lines() if row["status"] == "summarised")

    def asked(self) -> list[str]:
        """Every photo that engines were asked, as often as they were."""
        return self.asked_file.read_text("utf-8").splitlines() if self.asked_file.exists() else []

    def wait_for_answers(
        self, count: int, process: psutil.Popen | None = None, *, seconds: float = 60
    ) -> None:
        """Wait until the journals hold so many answers; fail when the process ends before."""
        wait_until(lambda: self.answers().total() >= count, f"{count} answers", process, seconds)

    def clear_up(self) -> None:
        for process in self._started:
            kill_everything(process)
            assert process.stdout is not None
            process.stdout.close()
            process.wait()


def finish(process: psutil.Popen, seconds: float = 240) -> Ended:
    """Wait for the end of a command."""
    output, _ = process.communicate(timeout=seconds)
    return Ended(process.returncode, _on_one_line(output))


def wait_until(
    condition: Callable[[], object], what: str, process: psutil.Popen | None = None, seconds: float = 60
) -> None:
    """Look every few milliseconds until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            pytest.fail(f"the command ended with {finish(process)} before: {what}")
        if time.monotonic() > deadline:
            pytest.fail(f"did not come within {seconds:g} s: {what}")
        time.sleep(0.005)


def workers_of(process: psutil.Popen) -> list[psutil.Process]:
    """The worker processes that a command has started."""
    found = []
    for child in _children(process):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "stage_a_pipeline.inference.worker" in child.cmdline():
                found.append(child)
    return found


def kill_everything(process: psutil.Popen) -> None:
    """SIGKILL for a command and for all that it has started, at one moment."""
    for member in (process, *_children(process)):
        with suppress(psutil.NoSuchProcess):
            member.kill()


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all of them have ended."""
    return not any(process.is_running() and process.status() != "zombie" for process in processes)


def photo(root: Path, group: str, name: str) -> Path:
    """Where a photo of a group lies."""
    return next((root / MISSION).glob(f"*/{group}/{name}"))


def group_folder(root: Path, group: str, label: str = "pass") -> Path:
    """A group's folder, made where it is missing."""
    folder = root / MISSION / LABEL_FOLDERS[label] / group
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A tmpfs on the folder; skips the test where mounting is not permitted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        yield folder
    finally:
        # Lazily: a run within this process may still have a table of that disk mapped.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, *options: str) -> None:
    """Give a mounted tmpfs other options."""
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(folder)], check=True)


@pytest.fixture
def make_workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workplace]]:
    """Makes workplaces with groups of the given sizes, which end with the test."""
    made: list[Workplace] = []

    def make(sizes: Mapping[str, Sequence[int]] = SIZES, name: str = "place") -> Workplace:
        (tmp_path / name).mkdir()
        workplace = Workplace(tmp_path / name, monkeypatch)
        write_groups(workplace.root, MISSION, sizes)
        made.append(workplace)
        return workplace

    yield make
    for workplace in made:
        workplace.clear_up()


@pytest.fixture
def workplace(make_workplace: Callable[..., Workplace]) -> Workplace:
    """Thirty photos in ten groups."""
    return make_workplace()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """What becomes of those thirty photos when nothing goes wrong."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = Workplace(tmp_path_factory.mktemp("undisturbed"), monkeypatch)
        write_groups(workplace.root, MISSION, SIZES)
        workplace.configure(inference=HERE)
        assert workplace.run_here().code == 0
    return workplace


def _children(process: psutil.Popen) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _on_one_line(output: str) -> str:
    return " ".join(output.split())


def _toml(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)

"""A folder like a fresh clone, in which a page's commands are typed one after the other, as its reader would.

What a reader has and a test has not is put in its place: photos, a checkpoint and an output below /data,
/models and /srv are in the folder, GPUs are CPUs, figures of photos and groups are small, and servers listen
where nobody else does. `stand_ins/` holds programs that are asked for nothing but what a page needs of them.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE
from tests.docs.pages import ROOT, Block, blocks_of
from tests.docs.readers import Reader

OF_A_CLONE: Final = (
    "Makefile",
    "constraints.txt",
    "deploy",
    "docs",
    "examples",
    "pyproject.toml",
    "stage_a_pipeline",
)
SERVERS: Final = (
    (re.compile(r"make ui\b"), 3000, " UI_PORT={}"),
    (re.compile(r"(?:\S*bin/)?(?:dagster dev|stage-a demo ui)\b"), 3000, " --port {}"),
    (re.compile(r"(?:\S*bin/)?dagster-webserver\b"), 3000, ""),
    (re.compile(r"(?:\S*bin/)?dagster api grpc\b"), 4000, ""),
    (re.compile(r"(?:\S*bin/)?dagster-daemon run\b"), None, ""),
    (re.compile(r"transformers serve\b"), 8000, " --port {}"),
    (re.compile(r"(?:\S*bin/)?python -m http\.server\b"), 8080, ""),
)
"""Commands that go on until they are stopped: the port, and how another is said where a page says none."""

PROLOGUE: Final = """\
set -euo pipefail
set -m
servers=()
stop_servers() {
  { set +x; } 2>/dev/null
  for server in "${servers[@]}"; do kill -INT -- "-$server" 2>/dev/null || true; done
  for server in "${servers[@]}"; do timeout 20 tail --pid="$server" -f /dev/null || true; done
  for server in "${servers[@]}"; do kill -KILL -- "-$server" 2>/dev/null || true; done
}
trap stop_servers EXIT
serve() {
  eval "$2" & servers+=("$!")
  python -m tests.docs.listening "$!" "$1"
}
"""


class Workplace:
    """The folder as `reader` has it; `replaced` are addresses of pages, and those that answer here."""

    def __init__(self, folder: Path, photos: Path, reader: Reader, replaced: Mapping[str, str]) -> None:
        self.folder = folder
        self._reader = reader
        self._replaced = replaced
        for name in OF_A_CLONE:
            (folder / name).symlink_to(ROOT / name)
        self._make_environment()
        for place in ("home", "data", "models", "srv"):
            (folder / place).mkdir()
        (folder / "data" / "photos").symlink_to(photos)
        (folder / "data" / "reviews.xlsx").symlink_to(photos / "reviews.xlsx")
        (folder / "models" / "qwen3-vl").symlink_to(ROOT / "stage_a_pipeline" / "demo" / "checkpoint")
        self._ports = {port: _free_port() for _, port, _ in SERVERS if port is not None}
        for name, text in reader.files.items():
            (folder / name).write_text(self.here(text), "utf-8")

    def _make_environment(self) -> None:
        """`.venv`, as `make setup` leaves it, of the environment in which the tests run."""
        environment = self.folder / ".venv"
        environment.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            if (Path(sys.prefix) / name).exists():
                (environment / name).symlink_to(Path(sys.prefix) / name)
        (environment / ".installed").touch()

    def here(self, text: str) -> str:
        """The text with this folder's places, devices, figures and ports for the reader's."""
        for address, one_of_ours in self._replaced.items():
            text = text.replace(address, one_of_ours)
        text = re.sub(r"(?<![\w$}.])/(data|models|srv)(?=/)", rf"{self.folder}/\1", text)
        # One device for a list in the environment: for several, Dagster starts a process per step.
        text = re.sub(r"cuda:\d+(,cuda:\d+)*", "cpu", text)
        text = re.sub(r"(--(?:photos|groups|rounds)) \d+", r"\1 2", text)
        # So few are refused there.
        text = re.sub(r"(bench (?:scale|cluster).* --photos) 2", r"\1 100", text)
        for port, free in self._ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(free), text)
        return text

    def script(self, page: Path) -> str:
        """Everything that the reader has typed before, and that the page has its reader type, save or run."""
        before = "".join(f"{self._typed(command)}\n" for command in self._reader.typed)
        return PROLOGUE + before + "".join(line for block in blocks_of(page) for line in self._steps(block))

    def _steps(self, block: Block) -> Iterator[str]:
        if block.not_run is not None:
            return
        if block.file is not None:
            yield _here_document(f"cat > {shlex.quote(block.file)}", self.here(block.text))
        elif block.language == "python":
            yield _here_document("python -", block.text)
        elif block.language == "sh":
            yield f"echo '# {block.place}' >&2\n"
            for command in block.commands():
                yield f"{self._typed(command)}\n"
            yield "stop_servers; servers=()\n"

    def _typed(self, command: str) -> str:
        for program, port, option in SERVERS:
            if program.match(command):
                told = command.split(" #")[0].rstrip()
                said = "" if str(port) in told or port is None else option.format(self._ports[port])
                return f"serve {self._ports.get(port, 0)} {shlex.quote(self.here(told) + said)}"
        return f"set -x; {self.here(command)}\n{{ set +x; }} 2>/dev/null"

    def run(self, page: Path, *, seconds: float) -> subprocess.CompletedProcess[str]:
        """The whole page; the first command that fails ends it."""
        kept = {
            name: value for name, value in os.environ.items() if name not in (*ENVIRONMENT, SETTINGS_VARIABLE)
        }
        kept.pop("DAGSTER_HOME", None)
        path = [str(ROOT / "tests" / "docs" / "stand_ins"), str(self.folder / ".venv" / "bin"), kept["PATH"]]
        script = self.folder / "typed.sh"
        script.write_text(self.script(page), "utf-8")
        # Not pytest's folder: Ray's sockets need a short name.
        with tempfile.TemporaryDirectory(prefix="docs-", ignore_cleanup_errors=True) as temporary:
            return _run(
                ["bash", str(script)],
                folder=self.folder,
                environment={
                    **kept,
                    "PATH": os.pathsep.join(path),
                    "PYTHONPATH": str(ROOT),
                    "HOME": str(self.folder / "home"),
                    "TMPDIR": temporary,
                    "OMP_NUM_THREADS": "1",
                    "COLUMNS": "200",
                    **{name: self.here(value) for name, value in self._reader.exported.items()},
                },
                seconds=seconds,
            )


def _run(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            told, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The servers are in process groups of their own.
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
            process.kill()
            told, _ = process.communicate()
            told += f"\nnot at its end after {seconds} seconds"
    return subprocess.CompletedProcess(command, process.returncode, told)


def _here_document(command: str, text: str) -> str:
    return f"{command} <<'END OF BLOCK'\n{text}END OF BLOCK\n"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""Worker processes and what becomes of them: started, listened to, replaced when they die, stopped.

A worker that dies or hangs is replaced on its own device, and what it had in hand is recorded, so that
a photo that kills its process is found out and left out. Where workers die without getting anywhere,
the device is given up and the next one goes on. When none is left, the shard fails.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline import errors
from stage_a_pipeline.errors import StageAError, StoppedError, WorkerError
from stage_a_pipeline.inference.asking import Listeners
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.journal import Ordeal, record_crash
from stage_a_pipeline.inference.metrics import Progress, ProgressListener, ShardMetrics
from stage_a_pipeline.inference.shard import ShardTask, claim_missions, run_shard
from stage_a_pipeline.inference.task_files import (
    OutcomeFile,
    Task,
    inputs_recorder,
    read_outcomes,
    write_task,
)
from stage_a_pipeline.storage import ensure_folder
from stage_a_pipeline.table_files import StoredTable

_LIVES: Final = 4
"""So many workers in a row may die on a device without ending a photo."""

_GRACE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told what while workers run."""

    progress: ProgressListener | None
    warning: Callable[[str], None]
    log: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Death:
    """How a worker ended before its shard did, what it had in hand, and how many photos it had ended."""

    cause: str
    in_hand: Sequence[Ordeal]
    finished: int


def run_task(
    task: Task,
    others: Sequence[Worker],
    folder: Path,
    audience: Audience,
    *,
    stop: threading.Event | None = None,
) -> tuple[StoredTable, ShardMetrics]:
    """The outcomes of a shard, in no promised order, and what it took.

    By the settings in a process of its own, or in this one. `folder` is for the task's files and is
    emptied first. `others` are the workers to go on where the task's own device is given up. Raises
    WorkerError when none is left, StoppedError soon after `stop` is set, and what run_shard raises.
    """
    if not task.shard.settings.inference.worker_processes:
        return _run_here(task, folder, audience)
    # Held here as well as by the workers: between two of them, no other run may begin.
    with claim_missions(task.shard):
        for place, worker in enumerate([task.shard.worker, *others]):
            if place:
                audience.warning(f"{worker.key} goes on with shard {task.shard.name}")
            moved = replace(task, shard=replace(task.shard, worker=worker))
            metrics = _run_on(moved, folder, audience, stop or threading.Event())
            if metrics is not None:
                return read_outcomes(folder), metrics
    raise WorkerError(
        f"worker processes died {_LIVES} times in a row on every device without finishing a photo; what "
        "they died of stands in the log; finished photos are kept, run again to go on"
    )


def _run_here(task: Task, folder: Path, audience: Audience) -> tuple[StoredTable, ShardMetrics]:
    listeners = Listeners(
        progress=audience.progress, warning=audience.warning, inputs=inputs_recorder(task.shard)
    )
    with OutcomeFile(ensure_folder(folder)) as outcomes:
        metrics = run_shard(task.shard, listeners=listeners, log=audience.log, keep=outcomes.add)
    return read_outcomes(folder), metrics


def _run_on(task: Task, folder: Path, audience: Audience, stop: threading.Event) -> ShardMetrics | None:
    """The metrics of the finished shard, or None when the device is given up."""
    blame, lives = _Blame(task.shard), _LIVES
    while lives:
        shutil.rmtree(folder, ignore_errors=True)
        write_task(folder, task)
        with _Process(folder, task.shard.settings.inference.stall_seconds, stop) as process:
            end = process.listen(audience)
        if isinstance(end, ShardMetrics):
            return end
        if end.finished:
            blame.stands()
            lives = _LIVES
        blame.lay_on(end.in_hand)
        lives -= 1
        photos = ", ".join(ordeal.name for ordeal in end.in_hand) or "no photo"
        audience.warning(f"the worker on {task.shard.worker.key} {end.cause} with {photos} in hand")
    # The device is at fault, not the photos that it failed on.
    blame.withdraw()
    return None


class _Blame:
    """Photos that a worker had in hand when it died, as the journal remembers them."""

    def __init__(self, shard: ShardTask) -> None:
        self._shard = shard
        self._unproven: dict[str, Ordeal] = {}

    def lay_on(self, ordeals: Sequence[Ordeal]) -> None:
        """Count one more death for each of them."""
        for ordeal in ordeals:
            self._unproven.setdefault(ordeal.name, ordeal)
            self._record(ordeal, ordeal.crashes + 1)

    def stands(self) -> None:
        """The device works: what was laid on photos was right."""
        self._unproven.clear()

    def withdraw(self) -> None:
        """Take back what was laid on photos since the device last worked."""
        for ordeal in self._unproven.values():
            self._record(ordeal, ordeal.crashes)

    def _record(self, ordeal: Ordeal, crashes: int) -> None:
        record_crash(
            self._shard.settings.output.work_dir / "journal",
            self._shard.name,
            replace(ordeal, crashes=crashes),
        )


class _Process:
    """One worker process; leaving the block stops it, with all that it has started."""

    def __init__(self, folder: Path, stall_seconds: float, stop: threading.Event) -> None:
        self._stall_seconds = stall_seconds
        self._stop = stop
        self._stalled = False
        reading, writing = os.pipe()
        self._messages = reading
        module = "stage_a_pipeline.inference.worker"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(folder), str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=[writing],
                # A signal for the run must reach the run alone, which then stops its workers in order.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            os.close(self._messages)

    def listen(self, audience: Audience) -> ShardMetrics | _Death:
        """Pass on what the worker tells, until its end. Raises the error that the worker tells."""
        in_hand: dict[str, Ordeal] = {}
        finished, words = 0, None
        for message in self._read():
            match message.pop("kind"):
                case "begin":
                    ordeal = Ordeal(**message)
                    in_hand[ordeal.name] = ordeal
                case "end":
                    in_hand.pop(message["name"], None)
                case "progress":
                    progress = Progress(**message)
                    finished = progress.done - progress.reused - progress.rejected
                    if audience.progress is not None:
                        audience.progress(progress)
                case "warning":
                    audience.warning(message["sentence"])
                case "log":
                    audience.log(message["sentence"])
                case "error":
                    raise _error(message["type"], message["message"])
                case "unexpected":
                    words = message["message"]
                case "done":
                    return ShardMetrics(**message["metrics"])
        return _Death(self._cause(words), list(in_hand.values()), finished)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Messages until the worker's end, or until it has been silent for too long."""
        rest, heard = b"", time.monotonic()
        while time.monotonic() - heard < self._stall_seconds:
            if self._stop.is_set():
                raise StoppedError
            if not select.select([self._messages], [], [], _POLL_SECONDS)[0]:
                continue
            heard = time.monotonic()
            data = os.read(self._messages, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (json.loads(line) for line in lines)
        self._stalled = True
        self._kill()

    def _cause(self, words: str | None) -> str:
        if self._stalled:
            return f"gave no sign of life for {self._stall_seconds:g} s (inference.stall_seconds)"
        code = self._process.wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}" + (f" ({words})" if words else "")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _error(kind: str, message: str) -> StageAError:
    found = getattr(errors, kind, StageAError)
    return found(message) if issubclass(found, StageAError) else StageAError(message)

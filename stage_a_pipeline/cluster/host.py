"""An actor's side: a worker process on its host, which is supervised as one at home, and the shards it has.

Nothing here knows Ray. A photo that kills or hangs the worker is found out by the host itself; the actor,
which loads no model, lives on.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from stage_a_pipeline.cluster.host_worker import CRASHES, KNOWN
from stage_a_pipeline.cluster.messages import (
    Brief,
    Done,
    Failed,
    Pulse,
    Ready,
    Sentence,
    shard_line,
    versions_here,
)
from stage_a_pipeline.cluster.scratch import Scratch
from stage_a_pipeline.cluster.shards import Shard
from stage_a_pipeline.errors import OutputError, StageAError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics, merge_metrics
from stage_a_pipeline.inference.shard import ShardTask
from stage_a_pipeline.inference.supervision import LIVES, outlive
from stage_a_pipeline.inference.task_files import Task, write_task
from stage_a_pipeline.inference.worker_process import Death, WorkerProcess
from stage_a_pipeline.settings import OutputSettings
from stage_a_pipeline.table_schemas import OUTCOMES

_WORKER: Final = ["-m", "stage_a_pipeline.cluster.host_worker"]
_SENTENCES: Final = 1000
"""So many wait for the run to ask for them; of more, the oldest are dropped."""


class Host:
    """One actor. `summarise` and `pulse` may be called from several threads at once."""

    def __init__(self) -> None:
        self._name = f"{socket.gethostname()} (pid {os.getpid()})"
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Shard, Future[Done | Failed]]] = {}
        self._process: WorkerProcess | None = None
        self._failed: Failed | None = None
        self._stop = threading.Event()
        self._supervising: threading.Thread | None = None
        self._known = bytearray()
        self._said: deque[Sentence] = deque(maxlen=_SENTENCES)
        # Counts of the workers that died, and of the one that lives.
        self._past, self._now = ShardMetrics(), ShardMetrics()
        self._task: ShardTask
        self._scratch: Scratch
        self._crashes: Mapping[bytes, int]

    def set_up(self, brief: Brief, known: bytes) -> Ready | Failed:
        """Start to supervise a worker; `known` are keys of answers that need not be asked for."""
        here = versions_here()
        other = [
            f"{name} {here[name]}, not {run}" for name, run in brief.versions.items() if here[name] != run
        ]
        if other:
            return self._failure("ClusterError", f"has {'; '.join(other)} as the run: install the same there")
        try:
            self._scratch = Scratch()
        except OutputError as error:
            return self._failure(type(error).__name__, str(error))
        self._known += known
        self._crashes = brief.crashes
        self._task = _task_here(brief, self._scratch.folder)
        self._supervising = threading.Thread(target=self._supervise, daemon=True)
        self._supervising.start()
        return Ready(self._name)

    def summarise(self, shard: Shard, news: bytes) -> Done | Failed:
        """The outcomes of a shard, once all are there; `news` are more keys as those of `set_up`."""
        done: Future[Done | Failed] = Future()
        with self._lock:
            self._known += news
            if self._failed is not None:
                return self._failed
            self._open[shard.id] = shard, done
            if self._process is not None:
                self._process.tell(shard_line(shard, news))
        return done.result()

    def pulse(self) -> Pulse:
        """What was done and said. It answers at once: the run takes silence for a hanging host."""
        said = [self._said.popleft() for _ in range(len(self._said))]
        return Pulse(self._metrics(), tuple(said))

    def close(self) -> Pulse:
        """End the worker, and remove what it has written on this host; the last words."""
        self._stop.set()
        if self._supervising is not None:
            self._supervising.join()
            self._scratch.remove()
        return self.pulse()

    def _supervise(self) -> None:
        where = f"{self._task.worker.key} of host {self._name}"
        try:
            outlive(self._task, self._live, self._audience(), where=where)
            failed = self._failure("WorkerError", f"worker processes died {LIVES} times in a row there")
        except StageAError as error:
            failed = self._failure(type(error).__name__, str(error))
        # A fault of ours must reach the run, which else would wait for ever.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            failed = self._failure("unexpected", f"{type(error).__name__}: {error}")
        with self._lock:
            self._failed = failed
            waiting = [done for _, done in self._open.values()]
        for done in waiting:
            done.set_result(failed)

    def _live(self) -> ShardMetrics | Death:
        """One worker from start to end, with all shards that are not done."""
        self._past, self._now = self._metrics(), ShardMetrics()
        folder = self._scratch.folder / "task"
        shutil.rmtree(folder, ignore_errors=True)
        write_task(folder, Task(self._task, ()))
        (folder / CRASHES).write_text(json.dumps({key.hex(): n for key, n in self._crashes.items()}), "utf-8")
        stall_seconds = self._task.settings.inference.stall_seconds
        with self._lock:
            # Written before the worker lives, which reads it; what comes later is told with its shard.
            (folder / KNOWN).write_bytes(self._known)
            process = WorkerProcess(folder, stall_seconds, self._stop, command=_WORKER)
            for shard, _ in self._open.values():
                process.tell(shard_line(shard, b""))
            self._process = process
        with process:
            try:
                return process.listen(self._audience(), self._keep)
            finally:
                with self._lock:
                    self._process = None

    def _keep(self, shard_id: str, rows: list[dict[str, Any]]) -> None:
        with self._lock:
            _, done = self._open.pop(shard_id)
        done.set_result(Done(shard_id, pa.Table.from_pylist(rows, schema=OUTCOMES), self._metrics()))

    def _metrics(self) -> ShardMetrics:
        return merge_metrics([self._past, self._now])

    def _audience(self) -> Audience:
        def say(kind: Any) -> Any:
            return lambda text: self._said.append(Sentence(kind, text))

        return Audience(self._count, warning=say("warning"), log=say("log"))

    def _count(self, progress: Progress) -> None:
        self._now = progress.metrics

    def _failure(self, kind: str, what: str) -> Failed:
        return Failed(kind, f"host {self._name}: {what}")


def _task_here(brief: Brief, folder: Path) -> ShardTask:
    """The run's task with this host's own places; its photos come later."""
    settings = brief.settings.model_copy(update={"output": OutputSettings(output_dir=folder)})
    worker = Worker(settings.engine.devices[0])
    return ShardTask(brief.name, (), worker, brief.recipes, settings, brief.run_id)

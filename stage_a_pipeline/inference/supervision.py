"""Worker processes and what becomes of them: started, listened to, replaced when they die, stopped.

A worker that dies or hangs is replaced on its own device, and what it had in hand is recorded, so that
a photo that kills its process is found out and left out. Where workers die without getting anywhere,
the device is given up and the next one goes on. When none is left, the shard fails.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from stage_a_pipeline.errors import WorkerError
from stage_a_pipeline.inference.asking import Audience, Listeners
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.journal import Ordeal, record_crash
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.prometheus import shown_metrics
from stage_a_pipeline.inference.shard import ShardTask, claim_missions, run_shard, share_journals
from stage_a_pipeline.inference.task_files import (
    OutcomeFile,
    Task,
    inputs_recorder,
    read_outcomes,
    write_task,
)
from stage_a_pipeline.inference.tracing import shard_trace
from stage_a_pipeline.inference.worker_process import Death, WorkerProcess
from stage_a_pipeline.storage import ensure_folder
from stage_a_pipeline.table_files import StoredTable
from stage_a_pipeline.telemetry.spans import WORKER, Span

LIVES: Final = 4
"""So many workers in a row may die on a device without ending a photo."""


class RunTask(Protocol):
    """Runs a task somewhere, as `run_task` does on this machine."""

    def __call__(
        self,
        task: Task,
        others: Sequence[Worker],
        folder: Path,
        audience: Audience,
        *,
        stop: threading.Event | None = None,
    ) -> tuple[StoredTable, ShardMetrics]: ...


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
    # Held here as well as by the workers: between two of them, no other run may begin.
    with (
        claim_missions(task.shard),
        share_journals(task.shard, audience.warning),
        shown_metrics(audience, task.shard) as audience,
        shard_trace(task.shard, audience.warning) as span,
    ):
        if not task.shard.settings.inference.worker_processes:
            return _run_here(task, folder, audience, span)
        for place, worker in enumerate([task.shard.worker, *others]):
            if place:
                audience.warning(f"{worker.key} goes on with shard {task.shard.name}")
            moved = replace(task, shard=replace(task.shard, worker=worker))
            metrics = _run_on(moved, folder, audience, stop or threading.Event(), span)
            if metrics is not None:
                return read_outcomes(folder), metrics
    raise WorkerError(
        f"worker processes died {LIVES} times in a row on every device without finishing a photo; what "
        "they died of stands in the log; finished photos are kept, run again to go on"
    )


def _run_here(task: Task, folder: Path, audience: Audience, span: Span) -> tuple[StoredTable, ShardMetrics]:
    listeners = Listeners(
        progress=audience.progress, warning=audience.warning, inputs=inputs_recorder(task.shard), span=span
    )
    with OutcomeFile(ensure_folder(folder)) as outcomes:
        metrics = run_shard(task.shard, listeners=listeners, log=audience.log, keep=outcomes.add)
    return read_outcomes(folder), metrics


def _run_on(
    task: Task, folder: Path, audience: Audience, stop: threading.Event, span: Span
) -> ShardMetrics | None:
    """The metrics of the finished shard, or None when the device is given up."""

    def live() -> ShardMetrics | Death:
        shutil.rmtree(folder, ignore_errors=True)
        with span.child(WORKER, {"stage_a.device": task.shard.worker.key}) as life:
            write_task(folder, replace(task, traceparent=life.traceparent))
            with WorkerProcess(folder, task.shard.settings.inference.stall_seconds, stop) as process:
                end = process.listen(audience)
            if isinstance(end, Death):
                life.fail("worker_died")
            return end

    return outlive(task.shard, live, audience, where=task.shard.worker.key)


def outlive(
    shard: ShardTask, live: Callable[[], ShardMetrics | Death], audience: Audience, *, where: str
) -> ShardMetrics | None:
    """Let one worker live after the other until one finishes; None when the device is given up.

    What they had in hand when they died is laid on the photos, in the shard's journal. Raises what `live`
    raises.
    """
    blame, lives = _Blame(shard), LIVES
    while lives:
        end = live()
        if isinstance(end, ShardMetrics):
            return end
        if end.finished:
            blame.stands()
            lives = LIVES
        blame.lay_on(end.in_hand)
        lives -= 1
        photos = ", ".join(ordeal.name for ordeal in end.in_hand) or "no photo"
        audience.warning(f"the worker on {where} {end.cause} with {photos} in hand")
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

"""A process of its own for one shard: what a photo does to it, it does to nobody else.

`supervision` starts it as `python -m stage_a_pipeline.inference.worker FOLDER DESCRIPTOR`. The folder
holds the task, and in the end the outcomes; messages go to the descriptor, one JSON object a line.
Standard input says nothing here: that it ends tells the worker to stop, also when the supervisor was killed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import EngineDiedError, StageAError, StoppedError
from stage_a_pipeline.inference.asking import Listeners, Watch
from stage_a_pipeline.inference.journal import Ordeal
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.inference.shard import ShardTask, run_shard
from stage_a_pipeline.inference.task_files import OutcomeFile, inputs_recorder, read_task
from stage_a_pipeline.inference.tracing import worker_trace

_BEAT_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 8.0
"""A worker that was asked to stop, and is stuck in a call of its engine, ends itself after that."""

_ORPHANED_SECONDS: Final = 0.2
"""So soon after the end of its supervisor, a process has another parent."""


class Channel:
    """Messages to the supervisor, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: object) -> None:
        """Send one message; a supervisor that is gone hears nothing."""
        line = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        # Where the supervisor is gone, standard input has ended as well, and stops the worker.
        with self._lock, suppress(BrokenPipeError):
            self._file.write(line)


class SupervisorsWatch(Watch):
    """Tells the supervisor which photos are being decoded or asked, and that the shard goes on."""

    def __init__(self, channel: Channel, stop: threading.Event) -> None:
        self._channel = channel
        self._stop = stop
        self._told = 0.0

    def begin(self, ordeal: Ordeal) -> None:
        self._channel.send("begin", **asdict(ordeal))

    def end(self, name: str) -> None:
        self._channel.send("end", name=name)

    def alive(self) -> None:
        if self._stop.is_set():
            raise StoppedError
        if time.monotonic() - self._told >= _BEAT_SECONDS:
            self._told = time.monotonic()
            self._channel.send("alive")


Work = Callable[[Path, Channel, Watch], ShardMetrics]
"""What a worker does with its task folder; raises StoppedError soon after its watch does."""


def main(arguments: Sequence[str]) -> int:
    """Run the shard of a task folder; the exit code is 0 when it was finished."""
    return run_worker(arguments, _run_shard, hear=lambda _: None)


def run_worker(arguments: Sequence[str], work: Work, *, hear: Callable[[bytes], None]) -> int:
    """Work in a task folder, and tell how that ended; the exit code is 0 when it was finished.

    `hear` is told every line of standard input, on a thread of its own.
    """
    folder, descriptor = Path(arguments[0]), int(arguments[1])
    channel, stop = Channel(descriptor), threading.Event()
    threading.Thread(target=_stop_with_input, args=(stop, os.getppid(), hear), daemon=True).start()
    try:
        metrics = work(folder, channel, SupervisorsWatch(channel, stop))
    except EngineDiedError as error:
        # A new worker may have more luck: to the supervisor, this one died.
        channel.send("unexpected", message=str(error))
        return 1
    except StageAError as error:
        channel.send("error", type=type(error).__name__, message=str(error))
        return 1
    # A bug of ours, or a library's: the supervisor decides whether to try again.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        channel.send("unexpected", message=f"{type(error).__name__}: {error}")
        return 1
    channel.send("done", metrics=metrics.to_mapping())
    return 0


def listeners_on(channel: Channel, task: ShardTask, watch: Watch) -> Listeners:
    """Listeners that tell the supervisor."""
    return Listeners(
        progress=lambda progress: _tell_progress(channel, progress),
        warning=lambda sentence: channel.send("warning", sentence=sentence),
        inputs=inputs_recorder(task),
        watch=watch,
    )


def _run_shard(folder: Path, channel: Channel, watch: Watch) -> ShardMetrics:
    told = read_task(folder)
    task, listeners = told.shard, listeners_on(channel, told.shard, watch)
    tracing = worker_trace(task, told.traceparent, listeners.warning or (lambda _: None))
    with tracing as span, OutcomeFile(folder) as outcomes:
        return run_shard(
            task,
            listeners=replace(listeners, span=span),
            log=lambda sentence: channel.send("log", sentence=sentence),
            keep=outcomes.add,
        )


def _tell_progress(channel: Channel, progress: Progress) -> None:
    channel.send("progress", **asdict(progress))


def _stop_with_input(stop: threading.Event, supervisor: int, hear: Callable[[bytes], None]) -> None:
    with os.fdopen(0, "rb", closefd=False) as lines:
        for line in lines:
            hear(line)
    stop.set()
    time.sleep(_ORPHANED_SECONDS)
    if os.getppid() == supervisor:
        time.sleep(_GRACE_SECONDS)
    # Nobody waits for an orphan's answers, and a command that is started again waits for its claims. What an
    # engine has started would go on and hold its device.
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A process of its own for one shard: what a photo does to it, it does to nobody else.

`supervision` starts it as `python -m stage_a_pipeline.inference.worker FOLDER DESCRIPTOR`. The folder
holds the task, and in the end the outcomes; messages go to the descriptor, one JSON object a line.
Standard input says nothing: that it ends tells the worker to stop, also when the supervisor was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import StageAError, StoppedError
from stage_a_pipeline.inference.asking import Listeners, Watch
from stage_a_pipeline.inference.journal import Ordeal
from stage_a_pipeline.inference.metrics import Progress
from stage_a_pipeline.inference.shard import run_shard
from stage_a_pipeline.inference.task_files import OutcomeFile, inputs_recorder, read_task

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


class _SupervisorsWatch(Watch):
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


def main(arguments: Sequence[str]) -> int:
    """Run the shard of a task folder; the exit code is 0 when it was finished."""
    folder, descriptor = Path(arguments[0]), int(arguments[1])
    channel, stop = Channel(descriptor), threading.Event()
    threading.Thread(target=_stop_with_input, args=(stop, os.getppid()), daemon=True).start()
    try:
        task = read_task(folder)
        listeners = Listeners(
            progress=lambda progress: _tell_progress(channel, progress),
            warning=lambda sentence: channel.send("warning", sentence=sentence),
            inputs=inputs_recorder(task.shard),
            watch=_SupervisorsWatch(channel, stop),
        )
        with OutcomeFile(folder) as outcomes:
            metrics = run_shard(
                task.shard,
                listeners=listeners,
                log=lambda sentence: channel.send("log", sentence=sentence),
                keep=outcomes.add,
            )
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


def _tell_progress(channel: Channel, progress: Progress) -> None:
    channel.send("progress", **asdict(progress))


def _stop_with_input(stop: threading.Event, supervisor: int) -> None:
    while os.read(0, 1 << 12):
        pass
    stop.set()
    time.sleep(_ORPHANED_SECONDS)
    if os.getppid() == supervisor:
        time.sleep(_GRACE_SECONDS)
    # Nobody waits for an orphan's answers, and a command that is started again waits for its claims.
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

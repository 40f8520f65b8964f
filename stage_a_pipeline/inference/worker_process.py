"""One worker process: started, listened to, found hung, stopped with all that it has started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.errors import StoppedError, error_of_kind
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.journal import Ordeal
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics

WORKER: Final = ["-m", "stage_a_pipeline.inference.worker"]
Keep = Callable[[str, list[dict[str, Any]]], None]
"""Takes the outcomes of a shard, as rows, from a worker that works on several."""

_LEAST_PATIENCE: Final = 30.0
_PATIENCE_FACTOR: Final = 20.0
_GRACE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5
_PIPE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended before its shard did, what it had in hand, and how many photos it had ended."""

    cause: str
    in_hand: Sequence[Ordeal]
    finished: int


class Patience:
    """How long a worker may be silent before it counts as hung.

    Until it has answered a photo, as long as the settings allow: a large model takes its time to load, and
    its first batch. From then on, 20 times as long as it has ever been silent at work, and 30 seconds at
    least, but never longer than the settings allow.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most = most_seconds
        self._longest: float | None = None
        self._has_answered = False

    def begin(self) -> None:
        """The worker has photos in hand: from now on, silences tell how long a step takes."""
        if self._longest is None:
            self._longest = 0.0

    def answered(self) -> None:
        """The worker has answered a photo: a step is known."""
        self._has_answered = True

    def saw(self, silent_seconds: float) -> None:
        """The worker was silent for so long."""
        if self._longest is not None:
            self._longest = max(silent_seconds, self._longest)

    @property
    def seconds(self) -> float:
        """How long it may be silent now."""
        if self._longest is None or not self._has_answered:
            return self._most
        return min(self._most, max(_LEAST_PATIENCE, _PATIENCE_FACTOR * self._longest))


class WorkerProcess:
    """One worker process; leaving the block stops it, with all that it has started."""

    def __init__(
        self,
        folder: Path,
        stall_seconds: float,
        stop: threading.Event,
        *,
        command: Sequence[str] | None = None,
    ) -> None:
        self._patience = Patience(stall_seconds)
        self._stop = stop
        self._silent_seconds: float | None = None
        self._untold = bytearray()
        self._telling = threading.Lock()
        reading, writing = os.pipe()
        self._messages = reading
        try:
            self._process = subprocess.Popen(
                [sys.executable, *(command or WORKER), str(folder), str(writing)],
                stdin=subprocess.PIPE,
                bufsize=0,
                pass_fds=[writing],
                # A signal for the run must reach the run alone, which then stops its workers in order.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        assert self._process.stdin is not None
        self._input = self._process.stdin
        os.set_blocking(self._input.fileno(), False)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._input.close()
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            os.close(self._messages)

    def tell(self, line: bytes) -> None:
        """Tell the worker a line, from any thread; what it is too slow to read is told while `listen` runs.

        One that is dead hears nothing, and `listen` tells of its end.
        """
        with self._telling:
            self._untold += line
            self._tell_on()

    def listen(self, audience: Audience, keep: Keep | None = None) -> ShardMetrics | Death:
        """Pass on what the worker tells, until its end. Raises the error that the worker tells."""
        in_hand: dict[str, Ordeal] = {}
        finished, words = 0, None
        for message in self._read():
            match message.pop("kind"):
                case "begin":
                    self._patience.begin()
                    ordeal = Ordeal(**message)
                    in_hand[ordeal.name] = ordeal
                case "end":
                    in_hand.pop(message["name"], None)
                case "progress":
                    progress = Progress.from_mapping(message)
                    # A rejected photo is asked again by the next worker: it gets the shard nowhere.
                    finished = progress.done - progress.metrics.reused - progress.metrics.rejected
                    if progress.metrics.inferred:
                        self._patience.answered()
                    if audience.progress is not None:
                        audience.progress(progress)
                case "warning":
                    audience.warning(message["sentence"])
                case "log":
                    audience.log(message["sentence"])
                case "outcomes":
                    assert keep is not None
                    keep(message["shard"], message["rows"])
                case "error":
                    raise error_of_kind(message["type"], message["message"])
                case "unexpected":
                    words = message["message"]
                case "done":
                    return ShardMetrics(**message["metrics"])
        return Death(self._cause(words), list(in_hand.values()), finished)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Messages until the worker's end, or until it has been silent for too long."""
        rest, silent, looked = b"", 0.0, time.monotonic()
        while not self._stop.is_set():
            writing = [self._input] if self._untold else []
            has_spoken, has_room, _ = select.select([self._messages], writing, [], _POLL_SECONDS)
            if has_room:
                with self._telling:
                    self._tell_on()
            # What this process spent stopped, or telling others, is no silence of the worker's.
            silent += min(time.monotonic() - looked, 2 * _POLL_SECONDS)
            if has_spoken:
                self._patience.saw(silent)
                data = os.read(self._messages, 1 << 16)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                yield from (json.loads(line) for line in lines)
                silent = 0.0
            elif silent >= self._patience.seconds:
                self._silent_seconds = silent
                self._kill()
                return
            looked = time.monotonic()
        raise StoppedError

    def _tell_on(self) -> None:
        """As much of what is not told yet as the pipe has room for: a worker that hangs reads nothing."""
        try:
            while self._untold and (told := self._input.write(self._untold[:_PIPE_BYTES])):
                del self._untold[:told]
        except BrokenPipeError:
            self._untold.clear()

    def _cause(self, words: str | None) -> str:
        if self._silent_seconds is not None:
            return f"gave no sign of life for {self._silent_seconds:.0f} s"
        code = self._process.wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}" + (f" ({words})" if words else "")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

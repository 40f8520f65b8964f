"""Decoding steps recorded as CUDA graphs: one launch instead of a thousand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch

from stage_a_pipeline.engines.refill_policy import StepShape

_LOG = logging.getLogger(__name__)

Step = Callable[[StepShape], None]


class Recorder(Protocol):
    """Turns work on fixed buffers into something that repeats it."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What repeats `work`, which is not carried out now. Raises RuntimeError."""

    def forget(self) -> None:
        """All recordings so far are gone."""


class CudaGraphs:
    """Records on the current CUDA device; all recordings share their memory, since one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See Recorder."""
        graph = torch.cuda.CUDAGraph()
        stream = _capture_stream(torch.cuda.current_device())
        # torch stays on the stream of a capture that fails.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            # Threads that prepare photos pin memory meanwhile, which a capture of all threads would forbid.
            torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay

    def forget(self) -> None:
        """See Recorder."""
        # torch asserts that a pool which is named once more still has a recording.
        self._pool = torch.cuda.graph_pool_handle()


@cache
def _capture_stream(_device: int) -> torch.cuda.Stream:
    """One for all captures on the current device; torch's own belongs to the first device that captured."""
    return torch.cuda.Stream()


class CapturedSteps:
    """A step that is carried out as it is at its first shape, and replayed where a shape comes again.

    The first time sets up what libraries set up lazily, which cannot be recorded. A step must be a function
    of buffers that stay where they are: call `forget` when they move. Where recording fails, steps go on
    as they are, and the log says so once. The step is handed in with every call: its owner owns the
    recordings too, and what points back would keep both on the device until garbage is collected.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Recorder | None = recorder
        self._seen: set[StepShape] = set()
        self._replays: dict[StepShape, Callable[[], None]] = {}

    def __call__(self, step: Step, shape: StepShape) -> None:
        """Carry out the step, which is the same every time."""
        if shape in self._seen and shape not in self._replays and self._recorder is not None:
            self._record(step, shape, self._recorder)
        self._seen.add(shape)
        replay = self._replays.get(shape)
        if replay is None:
            step(shape)
        else:
            replay()

    def forget(self) -> None:
        """Drop all recordings: their buffers are no longer there."""
        if self._replays and self._recorder is not None:
            self._recorder.forget()
        self._replays.clear()

    def _record(self, step: Step, shape: StepShape, recorder: Recorder) -> None:
        try:
            self._replays[shape] = recorder.record(lambda: step(shape))
        except RuntimeError as error:
            self._recorder = None
            _LOG.warning(
                "decoding goes on without CUDA graphs, which cannot be recorded here: %s; "
                "engine.cuda_graphs = false keeps it from being tried",
                error,
            )

"""One reassembly, measured in a process of its own: `python -m stage_a_pipeline.bench.reassembly_run TASK`.

TASK is the JSON of a Task; the Run is printed as JSON. One thread computes, on one processor.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.bench.noise_scan import patch_batches, scan_positions
from stage_a_pipeline.bench.processes import resident_mib
from stage_a_pipeline.bench.whole_canvas import whole_canvas_object
from stage_a_pipeline.reassembly import plan
from stage_a_pipeline.reassembly.sources import open_patches
from stage_a_pipeline.reassembly.stitching import accumulate

_POLL_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True)
class Task:
    """What to reassemble: the patches of a file, or without one those of a model, which are made on the way.

    With `plain`, each on a whole canvas of its own. The object goes to `result`, where one is named.
    """

    file: str | None
    patches: int
    patch_size: int
    crop_size: int
    spread: float
    batch_size: int
    seed: int
    plain: bool = False
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of the clock and of the processor, the peak of anonymous memory above the start, the canvas."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    canvas_side: int


def run(task: Task) -> Run:
    """Reassemble, and measure it. Raises ReassemblyError."""
    positions = scan_positions(task.patches, spread=task.spread, seed=task.seed)
    geometry = plan(positions, patch_size=task.patch_size, crop_size=task.crop_size)
    # Imports, and torch's first operations, are no part of it.
    _stitch(plan(positions[:1], patch_size=task.patch_size, crop_size=task.crop_size), task, None)
    peak = _AnonymousPeak()
    wall, cpu = time.perf_counter(), time.process_time()
    with peak.watched():
        found = _stitch(geometry, task, task.file)
    measured = Run(time.perf_counter() - wall, time.process_time() - cpu, peak.above_start, geometry.side)
    if task.result is not None:
        np.save(task.result, found)
    return measured


def _stitch(geometry: Any, task: Task, file: str | None) -> npt.NDArray[np.complex64]:
    if file is None:
        batches = patch_batches(geometry.count, task.patch_size, batch_size=task.batch_size, seed=task.seed)
        return accumulate(geometry, batches).object
    with open_patches(Path(file)) as patches:
        if task.plain:
            (whole,) = patches.batches(patches.count)
            return whole_canvas_object(geometry, whole)
        return accumulate(geometry, patches.batches(task.batch_size)).object


class _AnonymousPeak:
    """The peak of anonymous resident memory, which the kernel keeps no record of: looked at often."""

    def __init__(self) -> None:
        self._start = self._peak = self._now()

    @property
    def above_start(self) -> float:
        """MiB."""
        return self._peak - self._start

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look as long as the block lasts."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(_POLL_SECONDS):
            self._peak = max(self._peak, self._now())

    def _now(self) -> float:
        return resident_mib(os.getpid(), "RssAnon")


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(asdict(run(Task(**json.loads(sys.argv[1]))))))

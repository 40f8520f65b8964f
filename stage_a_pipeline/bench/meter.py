"""Seconds and peak memory of a stretch of work in this process, and in those that it has started."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stage_a_pipeline.bench.processes import cpu_seconds, descendants_of, resident_mib

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds of the clock and of all threads of all processes, and the peak above the start, in MiB."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float | None


class Meter:
    """Runs from its making to `stop`.

    Processes that this one has started before count as well, where the kernel tells of them (Linux). On a CPU
    the peak is the sum of theirs of resident memory, as the kernel keeps it (elsewhere it is None). On a CUDA
    device it is that of this process's tensors there, and None where it has none: the model is in another.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else None
        self._started = descendants_of(os.getpid())
        self._held = self._reset_peak()
        self._wall, self._cpu = time.perf_counter(), self._cpu_seconds()

    def stop(self) -> Reading:
        """The reading since the start."""
        if self._cuda is not None:
            import torch

            torch.cuda.synchronize(self._cuda)
        wall, cpu = time.perf_counter() - self._wall, self._cpu_seconds() - self._cpu
        peak = None if self._held is None else max(0.0, self._peak() - self._held)
        return Reading(wall, cpu, peak)

    def _reset_peak(self) -> float | None:
        """MiB held now, which the peak is from here on."""
        if self._cuda is not None:
            import torch

            torch.cuda.synchronize(self._cuda)
            torch.cuda.reset_peak_memory_stats(self._cuda)
            return torch.cuda.memory_allocated(self._cuda) / _MIB or None
        if sys.platform != "linux":
            return None
        _give_back_free_memory()
        # Documented in proc(5): 5 sets the peak of resident memory to what is resident now.
        for pid in self._processes:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return sum(resident_mib(pid, "VmRSS") for pid in self._processes)

    def _peak(self) -> float:
        if self._cuda is not None:
            import torch

            return torch.cuda.max_memory_allocated(self._cuda) / _MIB
        return sum(map(resident_mib, self._processes))

    @property
    def _processes(self) -> list[int]:
        return [os.getpid(), *self._started]

    def _cpu_seconds(self) -> float:
        return time.process_time() + cpu_seconds(self._started)


def _give_back_free_memory() -> None:
    """What the warm-up has freed must not hide what the run takes: glibc is told to keep such memory."""
    gc.collect()
    # Another C library has no malloc_trim.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

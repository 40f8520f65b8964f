"""Seconds and peak memory of a stretch of work in this process."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stage_a_pipeline.bench.scale import resident_mib

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds of the clock and of all threads, and the peak above the start, in MiB."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float | None


class Meter:
    """Runs from its making to `stop`.

    On a CPU the peak is that of resident memory, as the kernel keeps it (Linux; elsewhere it is None); on a
    CUDA device that of tensors there.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else None
        self._held = self._reset_peak()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Reading:
        """The reading since the start."""
        if self._cuda is not None:
            import torch

            torch.cuda.synchronize(self._cuda)
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = None if self._held is None else max(0.0, self._peak() - self._held)
        return Reading(wall, cpu, peak)

    def _reset_peak(self) -> float | None:
        """MiB held now, which the peak is from here on."""
        if self._cuda is not None:
            import torch

            torch.cuda.synchronize(self._cuda)
            torch.cuda.reset_peak_memory_stats(self._cuda)
            return torch.cuda.memory_allocated(self._cuda) / _MIB
        if sys.platform != "linux":
            return None
        _give_back_free_memory()
        # Documented in proc(5): 5 sets the peak of resident memory to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        return resident_mib(os.getpid(), "VmRSS")

    def _peak(self) -> float:
        if self._cuda is not None:
            import torch

            return torch.cuda.max_memory_allocated(self._cuda) / _MIB
        return resident_mib(os.getpid(), "VmHWM")


def _give_back_free_memory() -> None:
    """What the warm-up has freed must not hide what the run takes: glibc is told to keep such memory."""
    gc.collect()
    # Another C library has no malloc_trim.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

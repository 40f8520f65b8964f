"""What the kernel tells of processes (Linux): children, memory, CPU time. Nothing of those that are gone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def resident_mib(pid: int, field: str = "VmHWM") -> float:
    """A size from a process's status in MiB, its peak of resident memory by default; 0 when it is gone."""
    lines = _read(pid, "status").decode().splitlines()
    found = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(next(found, 0)) / 1024


def command_of(pid: int) -> bytes:
    """A process's command line, its words ended by zero bytes."""
    return _read(pid, "cmdline")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, on any of its threads."""
    threads = Path(f"/proc/{pid}/task")
    numbers = [path.name for path in threads.iterdir()] if threads.is_dir() else []
    return [int(child) for number in numbers for child in _read(pid, f"task/{number}/children").split()]


def descendants_of(pid: int) -> list[int]:
    """All that a process has started, and what that has started."""
    found = children_of(pid)
    return [*found, *(descendant for child in found for descendant in descendants_of(child))]


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of all threads of these processes, of their own and in the kernel."""
    ticks = 0
    for pid in pids:
        # Behind the command's name, which may hold anything: the 14th and 15th field of proc(5).
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""

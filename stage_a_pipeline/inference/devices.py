"""Devices of a run: a name for each worker, and the lease that keeps one run per device."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stage_a_pipeline.storage import device_lease


@dataclass(frozen=True, slots=True)
class Worker:
    """One place where a shard runs. Workers of the same device differ in `ordinal`."""

    device: str
    ordinal: int = 0

    @property
    def key(self) -> str:
        """A name of letters, digits and underscores: `cpu`, `cpu_1`, `cuda_0`, `cuda_0_and_1`."""
        name = self.device.replace(":", "_").replace("+", "_and_")
        return f"{name}_{self.ordinal}" if self.ordinal else name

    @property
    def leases(self) -> tuple[str, ...]:
        """The names of what it has for itself: of `cuda:1+0`, both devices, in one order for everybody."""
        kind, _, numbers = self.device.partition(":")
        if "+" not in numbers:
            return (self.key,)
        return tuple(f"{kind}_{number}" for number in sorted(map(int, numbers.split("+"))))


def list_workers(devices: Sequence[str]) -> tuple[Worker, ...]:
    """One worker per entry: `cpu,cpu` are two workers on the CPU."""
    seen: Counter[str] = Counter()
    workers = []
    for device in devices:
        workers.append(Worker(device, seen[device]))
        seen[device] += 1
    return tuple(workers)


@contextmanager
def leased(
    worker: Worker,
    lease_dir: Path | None,
    *,
    on_wait: Callable[[str], None],
    while_waiting: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the worker's devices for this process; wait, saying for whom, while another holds one.

    The lease is an OS file lock: it ends with its holder, however that ends.
    """
    folder = lease_dir or Path(tempfile.gettempdir()) / f"stage-a-leases-{os.getuid()}"
    with ExitStack() as held:
        for name in worker.leases:
            held.enter_context(device_lease(folder, name, on_wait=on_wait, while_waiting=while_waiting))
        yield

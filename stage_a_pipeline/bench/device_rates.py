"""What a device can do: `python -m stage_a_pipeline.bench.device_rates DEVICE` prints it as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from stage_a_pipeline.bench.roofline import DeviceRates

_REPEATS = 20


def measure_rates(device: str, *, side: int = 8192, copied: int = 1 << 30) -> DeviceRates:
    """The best of 20 square products in bfloat16, and of 20 copies, which read and write every byte."""
    import torch

    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: torch.mm(left, right), device)
    copy = _fastest(lambda: target.copy_(source), device)
    return DeviceRates(operations=2 * side**3 / product, bytes=2 * copied / copy)


def _fastest(work: Callable[[], object], device: str) -> float:
    import torch

    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure_rates(sys.argv[1]))) + "\n")

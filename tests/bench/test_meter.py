"""What a stretch of work took, in this process and in those that it has started."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from stage_a_pipeline.bench.meter import Meter
from stage_a_pipeline.bench.processes import children_of, cpu_seconds, descendants_of

BUSY = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
held = bytearray(80 << 20)
held[::4096] = b"x" * len(held[::4096])
while time.process_time() < 1.0:
    pass
print("done", flush=True)
sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def child():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def work(process):
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_work_of_a_process_that_was_started_before_counts():
    with child() as process:
        meter = Meter("cpu")
        work(process)
        reading = meter.stop()
    assert 0.5 < reading.cpu_seconds < reading.wall_seconds + 1
    assert 70 < reading.peak_memory_mb < 140


def test_work_of_a_process_that_was_started_later_does_not():
    meter = Meter("cpu")
    with child() as process:
        work(process)
        reading = meter.stop()
    assert reading.cpu_seconds < 0.5
    assert reading.peak_memory_mb < 40


@pytest.mark.parametrize(("held", "peak"), [(100 << 20, 28.0), (0, None)])
def test_on_cuda_the_peak_is_of_own_tensors_and_unknown_where_another_process_has_the_model(
    monkeypatch, held, peak
):
    told = {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": held,
        "max_memory_allocated": held and 128 << 20,
    }
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)
    assert Meter("cuda:0").stop().peak_memory_mb == peak


def test_processes_are_found_with_all_that_they_started():
    nested = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {'import time; time.sleep(60)'!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", nested])
    try:
        deadline = time.monotonic() + 20
        while not (inner := children_of(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert descendants_of(process.pid) == inner
        assert cpu_seconds([process.pid]) >= 0
        subprocess.run(["kill", *map(str, inner)], check=True)
    finally:
        process.kill()
        process.wait()
    assert (children_of(process.pid), cpu_seconds([process.pid])) == ([], 0.0)

"""What it costs to be watched: a shard with an engine that answers at once, watched in several ways.

Each round runs all ways in turn, in this process, over the same tiny photos, each with an output of its own.
The engine takes no time, so that what is added is a large share of the rest, and a tiny one of a real run.
CPU seconds are those of all threads; what the collector does in its own process is not counted.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from PIL import Image
from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import ShardTask, mission_recipe
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import Group
from stage_a_pipeline.settings import load_settings
from stage_a_pipeline.storage import atomic_write

ROUNDS: Final = 5
MISSION: Final = "挡风板安装检查"
_GROUP_SIZE: Final = 3
_PIXELS: Final = (32, 24)
_OFF: Final = "off"


@dataclass(frozen=True, slots=True)
class Way:
    """The seconds of each round of one way of being watched."""

    name: str
    wall_seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TelemetryCost:
    """So many photos, watched in these ways; the first is not to be watched."""

    photos: int
    ways: tuple[Way, ...]

    def share(self, way: Way) -> float:
        """What it adds to the CPU time of not being watched: the median over rounds of that of each."""
        off = self.ways[0].cpu_seconds
        return float(median(own / other - 1 for own, other in zip(way.cpu_seconds, off, strict=True)))

    def microseconds(self, way: Way) -> float:
        """CPU time per photo that it adds, by that share."""
        return 1e6 * self.share(way) * median(self.ways[0].cpu_seconds) / self.photos


def measure_telemetry(photos: int, *, rounds: int = ROUNDS) -> TelemetryCost:
    """Run all ways `rounds` times, in turn, after a first round that is not measured."""
    with scratch_folder() as scratch, _sink() as collector:
        groups = _groups(scratch / "photos", photos)
        ways = _ways(scratch, collector)
        wall: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, overrides in ways.items():
                begun, used = time.perf_counter(), time.process_time()
                _run(groups, overrides, scratch / f"{name}-{turn}")
                if turn:
                    wall[name].append(time.perf_counter() - begun)
                    cpu[name].append(time.process_time() - used)
    return TelemetryCost(photos, tuple(Way(name, tuple(wall[name]), tuple(cpu[name])) for name in ways))


def print_telemetry(cost: TelemetryCost, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    table = Table(title=f"{cost.photos} photos, an engine that answers at once, medians")
    for column in ("watched by", "wall s", "CPU s", "CPU time", "µs CPU a photo"):
        table.add_column(column, justify="left" if column == "watched by" else "right")
    for way in cost.ways:
        table.add_row(
            way.name,
            f"{median(way.wall_seconds):.2f}",
            f"{median(way.cpu_seconds):.2f}",
            f"{cost.share(way):+.1%}",
            f"{cost.microseconds(way):.0f}",
        )
    Console().print(table)
    if json_file is not None:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
        shares = {way.name: cost.share(way) for way in cost.ways}
        with atomic_write(json_file) as file:
            json.dump({**asdict(cost), "cpu_shares": shares, "machine": machine}, file, indent=2)


def _ways(scratch: Path, collector: str) -> Mapping[str, Mapping[str, Any]]:
    """Sections of the settings by name; nobody watches twice, so that noise is seen."""
    traced = {"otlp_endpoint": collector}
    return {
        _OFF: {},
        "off, again": {},
        "metrics file": {"output": {"prometheus_dir": scratch / "metrics"}},
        "trace, 1% of photos": {"telemetry": {**traced, "photo_sample_ratio": 0.01}},
        "trace, all photos": {"telemetry": {**traced, "photo_sample_ratio": 1.0}},
    }


def _run(groups: tuple[Group, ...], overrides: Mapping[str, Any], folder: Path) -> None:
    sections = {
        "engine": {"engine": "fake"},
        "inference": {"worker_processes": False},
        **overrides,
        "output": {"output_dir": folder, **overrides.get("output", {})},
    }
    settings = load_settings(environ={}, overrides=sections)
    recipe = mission_recipe(load_missions()[MISSION], settings)
    (refs,) = deal_out(enumerate(groups), shards=1, mode="per_group")
    shard = ShardTask("cpu", refs, Worker("cpu"), {MISSION: recipe}, settings, folder.name)
    # A collector that cannot keep up makes a trace cheaper than it is.
    warn = Console(stderr=True).print
    run_task(Task(shard, groups), [], folder / "task", Audience(None, warn, lambda _: None))


def _groups(root: Path, photos: int) -> tuple[Group, ...]:
    rng = Random(7)
    for number in range(photos):
        folder = root / MISSION / "审核通过" / f"QC-20250101-{number // _GROUP_SIZE:06}"
        folder.mkdir(parents=True, exist_ok=True)
        width, height = _PIXELS
        pixels = Image.frombytes("RGB", _PIXELS, rng.randbytes(3 * width * height))
        pixels.save(folder / f"IMG_{number % _GROUP_SIZE + 1}.jpg", "JPEG")
    return discover_groups(root, MISSION).groups


@contextmanager
def _sink() -> Iterator[str]:
    """The address of a collector beside this process."""
    with subprocess.Popen(
        [sys.executable, "-m", "stage_a_pipeline.bench.span_sink"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()

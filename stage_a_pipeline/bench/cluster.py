"""Many photos over Ray nodes on this machine against one process: the real command, watched from outside.

The photos, the engine and the phases are those of `bench.scale`. Every process below the benchmark is
counted to a component: its peak of resident memory as the kernel keeps it (VmHWM, shared pages of Ray's
object store included), and its processor time until it was last seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.processes import command_of, cpu_seconds, descendants_of, resident_mib
from stage_a_pipeline.bench.scale import (
    MISSION,
    StepSeconds,
    machine,
    phase_seconds,
    run_command,
    workplace,
    write_tree,
)
from stage_a_pipeline.cluster.local_nodes import LOOPBACK, local_nodes
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.storage import atomic_write

_POLL_SECONDS: Final = 0.25
_COMPONENTS: Final[Mapping[str, Sequence[bytes]]] = {
    "actor's worker": (b"stage_a_pipeline.cluster.host_worker",),
    "worker process": (b"stage_a_pipeline.inference.worker",),
    "command": (b"stage-a", b"materialize"),
    "actor": (b"ray::Host",),
    "raylet": (b"/raylet/raylet",),
    "gcs_server": (b"gcs_server",),
}
"""What the command lines of each component hold, the first match counts."""

_OTHER: Final = "others"


@dataclass(slots=True)
class Component:
    """Processes of one kind: the largest peak among them, and the processor time of all."""

    processes: int = 0
    peak_mib: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of running took: wall seconds, by phase as well, and what each component did."""

    wall_seconds: float
    seconds: Mapping[str, float]
    components: Mapping[str, Component]


@dataclass(frozen=True, slots=True)
class ClusterComparison:
    """The same photos by one process and by nodes of a cluster."""

    photos: int
    groups: int
    nodes: int
    alone: Way
    cluster: Way
    same_bytes: bool


def compare_cluster(
    photos: int, *, nodes: int, seed: int, step_seconds: StepSeconds, folder: Path | None = None
) -> ClusterComparison:
    """Run the command alone, and over so many nodes. Raises as compare_scale does, and ConfigurationError."""
    with workplace(folder) as place:
        groups = write_tree(place / "in", photos, Random(seed))
        # With the nodes first: without Ray, nothing is measured.
        with local_nodes(nodes) as address:
            cluster = _measure(place, "cluster", f'[cluster]\naddress = "{address}"\n', step_seconds)
        alone = _measure(place, "alone", "", step_seconds)
        one, other = (output_paths(place / way / "out", MISSION).jsonl for way in ("alone", "cluster"))
        same_bytes = one.read_bytes() == other.read_bytes()
    return ClusterComparison(photos, groups, nodes, alone, cluster, same_bytes)


def _measure(place: Path, way: str, settings: str, step_seconds: StepSeconds) -> Way:
    (place / way).mkdir()
    started = time.perf_counter()
    census = run_command(
        place / way, root=place / "in", more_settings=settings, environment=LOOPBACK, watch=_watch
    )
    wall = time.perf_counter() - started
    return Way(wall, phase_seconds(step_seconds(place / way / "dagster_home")), census.components())


@dataclass(slots=True)
class _Census:
    """All processes below this one, as they were last seen."""

    seen: dict[int, tuple[str, float, float]] = field(default_factory=dict)

    def look(self) -> None:
        for pid in descendants_of(os.getpid()):
            # One that has just ended, or that nobody has waited for yet, is as it was seen last.
            if command := command_of(pid):
                self.seen[pid] = _component(command), resident_mib(pid), cpu_seconds([pid])

    def components(self) -> dict[str, Component]:
        """By name, in a fixed order."""
        found = {name: Component() for name in (*_COMPONENTS, _OTHER)}
        for name, peak, cpu in self.seen.values():
            one = found[name]
            one.processes += 1
            one.peak_mib = max(one.peak_mib, peak)
            one.cpu_seconds += cpu
        return {name: one for name, one in found.items() if one.processes}


def _watch(process: subprocess.Popen[bytes]) -> _Census:
    census = _Census()
    while process.poll() is None:
        census.look()
        time.sleep(_POLL_SECONDS)
    return census


def _component(command: bytes) -> str:
    for name, marks in _COMPONENTS.items():
        if all(mark in command for mark in marks):
            return name
    return _OTHER


def print_cluster(comparison: ClusterComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    console = Console()
    alone, cluster = comparison.alone, comparison.cluster
    table = Table("", "one process", f"{comparison.nodes} Ray nodes", "ratio")
    rows: list[tuple[str, Callable[[Way], float]]] = [
        *((f"{phase} (s)", lambda way, phase=phase: way.seconds[phase]) for phase in alone.seconds),
        ("whole command (s)", lambda way: way.wall_seconds),
        ("photos/s", lambda way: comparison.photos / way.wall_seconds),
    ]
    for name, figure in rows:
        few, many = figure(alone), figure(cluster)
        table.add_row(name, f"{few:.1f}", f"{many:.1f}", f"{many / few:.1f}" if few >= 0.05 else "")
    console.print(table)
    for title, way in (("one process", alone), (f"{comparison.nodes} Ray nodes", cluster)):
        console.print(_components_table(title, way))
    console.print(
        f"{comparison.photos} photos in {comparison.groups} groups; "
        f"the two files are {'the same, byte for byte' if comparison.same_bytes else 'DIFFERENT'}",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump({"machine": machine(), **asdict(comparison)}, file, ensure_ascii=False, indent=2)
            file.write("\n")


def _components_table(title: str, way: Way) -> Table:
    table = Table(title, "processes", "largest peak (MiB)", "CPU time of all (s)")
    for name, one in way.components.items():
        table.add_row(name, str(one.processes), f"{one.peak_mib:.0f}", f"{one.cpu_seconds:.1f}")
    return table


def require_same(comparison: ClusterComparison) -> None:
    """StageAError when the two ways did not end in the same bytes."""
    if not comparison.same_bytes:
        raise StageAError("the files of the two ways differ; keep them with --dir, and compare")

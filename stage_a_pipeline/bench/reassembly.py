"""Seconds and memory of reassembling many patches, beside whole canvases, and beside fewer patches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.module_run import run_module
from stage_a_pipeline.bench.noise_scan import write_patches
from stage_a_pipeline.bench.reassembly_run import Run, Task
from stage_a_pipeline.bench.scale import machine
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.storage import atomic_write

_MODULE: Final = "stage_a_pipeline.bench.reassembly_run"
_EQUAL: Final = 1e-5
WHOLE, SAME, NPY, NPZ, FEW, MADE = "whole canvas", "same, .npy", ".npy", ".npz", "1%, .npy", "generated"


@dataclass(frozen=True, slots=True)
class ReassemblyWorkload:
    """`patches` of `patch_size` pixels, on a raster of `spread` pixels a side; `plain` for the baseline."""

    patches: int = 100_000
    patch_size: int = 64
    crop_size: int = 20
    spread: float = 600.0
    batch_size: int = 256
    seed: int = 7
    plain: int = 100

    @property
    def few(self) -> int:
        """A hundredth, whose memory must be about the same."""
        return max(1, self.patches // 100)


@dataclass(frozen=True, slots=True)
class Row:
    """One run: what it read from, and of how many patches."""

    name: str
    patches: int
    run: Run

    @property
    def rate(self) -> float:
        """Patches per second of the processor."""
        return self.patches / self.run.cpu_seconds


@dataclass(frozen=True, slots=True)
class ReassemblyComparison:
    """All runs; with files, also how many times the patches of whole canvases, and how far objects differ."""

    workload: ReassemblyWorkload
    rows: tuple[Row, ...]
    ratio: float | None = None
    difference: float | None = None


def compare_reassembly(
    workload: ReassemblyWorkload, *, files: bool, tell: Callable[[str], None] = lambda _: None
) -> ReassemblyComparison:
    """Measure each run in a process of its own. Raises StageAError.

    With `files`, which take 16 bytes per pixel of a patch in the temporary folder until the benchmark ends,
    and whole canvases beside; else only patches that are made on the way.
    """
    made = Task(None, *astuple(workload)[:-1])
    if not files:
        return ReassemblyComparison(workload, tuple(_rows({MADE: made}, tell)))
    with scratch_folder() as folder:
        tell(f"writing {workload.patches} patches twice")
        small = _written(replace(made, patches=min(workload.plain, workload.patches)), folder / "plain.npy")
        results = folder / "whole.npy", folder / "ours.npy"
        tasks = {
            WHOLE: replace(small, plain=True, result=str(results[0])),
            SAME: replace(small, result=str(results[1])),
            FEW: _written(replace(made, patches=workload.few), folder / "few.npy"),
            NPY: _written(made, folder / "many.npy"),
            NPZ: _written(made, folder / "many.npz"),
            MADE: made,
        }
        rows = tuple(_rows(tasks, tell))
        whole, ours = map(np.load, results)
    rates = {row.name: row.rate for row in rows}
    # Pixels that have almost nothing of any patch are mostly rounding in either.
    difference = float(np.abs(whole - ours)[np.abs(ours) > 0.01].max())
    return ReassemblyComparison(workload, rows, rates[NPY] / rates[WHOLE], difference)


def _rows(tasks: Mapping[str, Task], tell: Callable[[str], None]) -> Iterator[Row]:
    for name, task in tasks.items():
        tell(f"{name}: {task.patches} patches")
        yield Row(name, task.patches, _measure(task))


def _written(task: Task, path: Path) -> Task:
    write_patches(path, task.patches, task.patch_size, seed=task.seed)
    return replace(task, file=str(path))


def _measure(task: Task) -> Run:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = run_module(_MODULE, json.dumps(asdict(task)), environment=environment, what="the reassembly")
    return Run(**json.loads(said.strip().splitlines()[-1]))


def print_reassembly(comparison: ReassemblyComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    table = Table("", "patches", "canvas", "seconds", "CPU s", "per CPU s", "MiB")
    for row in comparison.rows:
        run = row.run
        seconds = (f"{figure:.2f}" for figure in (run.seconds, run.cpu_seconds))
        table.add_row(
            row.name,
            str(row.patches),
            f"{run.canvas_side}²",
            *seconds,
            f"{row.rate:.0f}",
            f"{run.peak_mib:.0f}",
        )
    console = Console()
    console.print(table)
    console.print("MiB: peak of anonymous memory above the start, canvas included", soft_wrap=True)
    if comparison.ratio is not None:
        console.print(
            f"{comparison.ratio:.0f} times the patches of whole canvases per CPU second; their objects "
            f"differ by at most {comparison.difference:.1e}",
            soft_wrap=True,
        )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump({"machine": machine(), **asdict(comparison)}, file, ensure_ascii=False, indent=2)
            file.write("\n")


def require_equal(comparison: ReassemblyComparison) -> None:
    """StageAError where the objects of the two differ."""
    if comparison.difference is not None and comparison.difference > _EQUAL:
        raise StageAError(f"the two objects differ by {comparison.difference:.1e}, more than {_EQUAL:.0e}")

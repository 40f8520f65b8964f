"""Seconds and memory of reassembling many patches, beside whole canvases, and beside fewer patches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.module_run import run_module
from stage_a_pipeline.bench.reassembly_run import Run, Task
from stage_a_pipeline.bench.scale import machine
from stage_a_pipeline.bench.scan_files import write_npy, write_npz
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.storage import atomic_write, output_errors

_MODULE: Final = "stage_a_pipeline.bench.reassembly_run"
_EQUAL: Final = 1e-5
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ReassemblyWorkload:
    """`patches` of `patch_size` pixels, on a raster of `spread` pixels a side; `plain` for the baseline."""

    patches: int = 100_000
    patch_size: int = 64
    crop_size: int = 20
    spread: float = 600.0
    batch_size: int = 256
    plain: int = 100
    seed: int = 7

    @property
    def few(self) -> int:
        """A hundredth, whose memory must be about the same."""
        return max(1, self.patches // 100)


@dataclass(frozen=True, slots=True)
class ReassemblyComparison:
    """One run per row, and how far whole canvases are from ours on the same patches."""

    workload: ReassemblyWorkload
    plain: Run
    plain_patches: Run
    few: Run
    npy: Run
    npz: Run
    model: Run
    difference: float

    @property
    def equal(self) -> bool:
        """Whether both give the same object."""
        return self.difference <= _EQUAL

    @property
    def ratio(self) -> float:
        """Patches per processor second over those of whole canvases."""
        ours = self.workload.patches / self.npy.cpu_seconds
        return ours / (min(self.workload.plain, self.workload.patches) / self.plain.cpu_seconds)


def compare_reassembly(
    workload: ReassemblyWorkload, *, tell: Callable[[str], None] = lambda _: None
) -> ReassemblyComparison:
    """Write the patches to the temporary folder and measure each run in a process of its own.

    Raises StageAError. The files take 16 bytes per pixel of a patch until the benchmark ends.
    """
    plain = min(workload.plain, workload.patches)
    with scratch_folder() as folder:
        task = Task(
            None,
            workload.patches,
            workload.patch_size,
            workload.crop_size,
            workload.spread,
            workload.batch_size,
            workload.seed,
        )
        tell(f"writing {workload.patches} patches twice")
        small = _written(replace(task, patches=plain), folder / "plain.npy")
        few = _written(replace(task, patches=workload.few), folder / "few.npy")
        npy, npz = (_written(task, folder / name) for name in ("many.npy", "many.npz"))
        results = folder / "whole.npy", folder / "ours.npy"
        runs = {
            "plain": replace(small, plain=True, result=str(results[0])),
            "plain_patches": replace(small, result=str(results[1])),
            "few": few,
            "npy": npy,
            "npz": npz,
            "model": task,
        }
        measured = {}
        for name, each in runs.items():
            tell(f"{name}: {each.patches} patches")
            measured[name] = _measure(each)
        whole, ours = map(np.load, results)
        # Pixels that have almost nothing of any patch are mostly rounding in either.
        difference = float(np.abs(whole - ours)[np.abs(ours) > 0.01].max())
    return ReassemblyComparison(workload, difference=difference, **measured)


def _written(task: Task, path: Path) -> Task:
    write = write_npz if path.suffix == ".npz" else write_npy
    with output_errors(path.parent):
        write(path, task.patches, task.patch_size, seed=task.seed)
    return replace(task, file=str(path))


def _measure(task: Task) -> Run:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = run_module(_MODULE, json.dumps(asdict(task)), environment=environment, what="the reassembly")
    return Run(**json.loads(said.strip().splitlines()[-1]))


def print_reassembly(comparison: ReassemblyComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    workload = comparison.workload
    plain = min(workload.plain, workload.patches)
    rows: tuple[tuple[str, int, Run], ...] = (
        ("whole canvases", plain, comparison.plain),
        ("the same from .npy", plain, comparison.plain_patches),
        (".npy, a hundredth", workload.few, comparison.few),
        (".npy", workload.patches, comparison.npy),
        (".npz", workload.patches, comparison.npz),
        ("straight from a model", workload.patches, comparison.model),
    )
    table = Table("", "patches", "seconds", "CPU s", "patches/CPU s", "MiB above start")
    for name, patches, run in rows:
        figures = (f"{figure:.2f}" for figure in (run.seconds, run.cpu_seconds))
        rate, memory = f"{patches / run.cpu_seconds:.0f}", f"{run.peak_mib:.0f}"
        table.add_row(name, str(patches), *figures, rate, memory)
    console = Console()
    console.print(table)
    console.print(
        f"{comparison.ratio:.0f} times the patches of whole canvases per CPU second, {comparison.npy.canvas_side} "
        f"pixels a side; their objects differ by at most {comparison.difference:.1e}",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(
                {"machine": machine(), **asdict(comparison), "ratio": comparison.ratio},
                file,
                ensure_ascii=False,
                indent=2,
            )
            file.write("\n")


def require_equal(comparison: ReassemblyComparison) -> None:
    """StageAError where the objects of the two differ."""
    if not comparison.equal:
        raise StageAError(f"the two objects differ by {comparison.difference:.1e}, more than {_EQUAL:.0e}")

"""A comparison as files: metrics and curves as CSV, objects as `.npz`, a picture.

docs/data-contract.md lists their columns and names.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.reassembly.comparison import BASELINE, PINN, ComparedArm, Comparison
from stage_a_pipeline.reassembly.comparison_plot import draw_comparison
from stage_a_pipeline.reassembly.metrics import METRIC_NAMES
from stage_a_pipeline.storage import (
    atomic_write,
    claim_output,
    ensure_folder,
    output_errors,
    prune_leftovers,
    remove_file,
)

METRICS: Final = "comparison_metrics.csv"
PLOT: Final = "comparison_plot.png"
OBJECTS: Final = "reconstructions.npz"
ALIGNED: Final = "reconstructions_aligned.npz"
CURVES: Final = {PINN: "pinn_frc_curves.csv", BASELINE: "baseline_frc_curves.csv"}

_LEFTOVER_DAYS: Final = 1.0

Row = Sequence[object]


def write_comparison(
    folder: Path, comparison: Comparison, *, save_npz: bool = True, save_npz_aligned: bool = True
) -> tuple[Path, ...]:
    """Write the results into the folder and tell their paths; older ones stay until all of them are written.

    What an earlier comparison has left there and this one has not, such as the metrics where there is no
    truth, is removed last. Raises OutputError.
    """
    ensure_folder(folder)
    for _ in prune_leftovers(folder, older_than_days=_LEFTOVER_DAYS):
        # Of commands that were killed while they wrote.
        continue
    measured = comparison.truth is not None
    with ExitStack() as together:
        written = [_write_rows(together, folder / METRICS, metric_rows(comparison))]
        for arm in comparison.arms:
            if arm.name in CURVES and arm.metrics is not None:
                written.append(_write_rows(together, folder / CURVES[arm.name], curve_rows(arm)))
        if save_npz:
            written.append(_write_arrays(together, folder / OBJECTS, _objects(comparison)))
        if save_npz_aligned and measured:
            written.append(_write_arrays(together, folder / ALIGNED, _aligned(comparison)))
        file = together.enter_context(atomic_write(folder / PLOT, "wb"))
        draw_comparison(file, comparison)
        file.flush()
        written.append(folder / PLOT)
    for name in (METRICS, *CURVES.values(), OBJECTS, ALIGNED, PLOT):
        if folder / name not in written:
            with output_errors(folder / name):
                remove_file(folder / name)
    return tuple(written)


def claim_comparison(folder: Path, *, run_id: str) -> AbstractContextManager[None]:
    """The folder for one comparison at a time. LockedError at once while another one has it."""
    return claim_output(
        folder / ".lock",
        "comparison",
        run_id=run_id,
        purpose="compare models",
        what="the comparison in this folder",
    )


def short_name(arm: str) -> str:
    """What an arm is called in the names of numbers."""
    return "pinn" if arm == PINN else arm.lower()


def metric_rows(comparison: Comparison) -> Iterator[Row]:
    """The rows of the metrics, the header first: metrics of all arms, then their offsets, then seconds."""
    yield ("model", "metric", "amplitude", "phase", "value")
    for arm in comparison.arms:
        for name in METRIC_NAMES if arm.metrics is not None else ():
            yield (arm.name, name, *map(_cell, getattr(arm.metrics, name)), "")
    for arm in comparison.arms:
        if arm.offset is not None:
            yield (arm.name, "registration_offset_dy", "", "", _cell(arm.offset.dy))
            yield (arm.name, "registration_offset_dx", "", "", _cell(arm.offset.dx))
    for arm in comparison.arms:
        if arm.arm.seconds is not None:
            yield (arm.name, "computation_time_s", "", "", _cell(arm.arm.seconds))


def curve_rows(arm: ComparedArm) -> Iterator[Row]:
    """The rows of an arm's ring correlations, the header first; bins that one curve has not are empty."""
    assert arm.metrics is not None
    yield ("model", "frequency_bin", "amplitude_frc", "phase_frc")
    for number, pair in enumerate(zip_longest(*arm.metrics.frc, fillvalue=math.nan)):
        yield (arm.name, number, *map(_cell, pair))


def _cell(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.6f}"


def _write_rows(together: ExitStack, path: Path, rows: Iterable[Row]) -> Path:
    """The file is put in place with the others; a full disk is to be noticed before the first of them is."""
    file = together.enter_context(atomic_write(path))
    csv.writer(file, lineterminator="\n").writerows(rows)
    file.flush()
    return path


def _write_arrays(together: ExitStack, path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    """See _write_rows."""
    file = together.enter_context(atomic_write(path, "wb"))
    np.savez(file, allow_pickle=False, **arrays)
    file.flush()
    return path


def _objects(comparison: Comparison) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for arm in comparison.arms:
        arrays |= _parts(arm.name.lower(), arm.arm.object)
    if comparison.truth is not None:
        arrays |= _parts("ground_truth", comparison.truth)
    return arrays


def _aligned(comparison: Comparison) -> dict[str, NDArray[Any]]:
    """As `_objects`, after alignment; the truth is that of the first arm's pixels."""
    arrays: dict[str, NDArray[Any]] = {}
    offsets: dict[str, NDArray[Any]] = {}
    for arm in comparison.arms:
        assert arm.aligned is not None
        arrays |= _parts(arm.name.lower(), arm.aligned.reconstruction)
        if arm.offset is not None:
            short = short_name(arm.name)
            offsets |= {f"{short}_offset_{axis}": np.array(of) for axis, of in arm.offset._asdict().items()}
    first = comparison.arms[0].aligned
    assert first is not None
    return {**arrays, **_parts("ground_truth", first.truth), **offsets}


def _parts(name: str, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
    whole = image.astype(np.complex64, copy=False)
    return {
        f"{name}_amplitude": np.abs(whole),
        f"{name}_phase": np.angle(whole),
        f"{name}_complex": whole,
    }

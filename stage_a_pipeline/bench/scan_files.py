"""Large scans for the benchmark of the reassembly, written without holding them in memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from stage_a_pipeline.reassembly.geometry import Positions

_DIFFERENT: Final = 512
"""So many patches are different; their files repeat them."""


def scan_positions(count: int, *, spread: float, seed: int) -> Positions:
    """(count, 2) positions of a raster over a square of that side, each moved by up to half a pixel."""
    steps = np.linspace(0, spread, math.ceil(math.sqrt(count)))
    raster = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)[:count]
    return raster + np.random.default_rng(seed).uniform(-0.5, 0.5, raster.shape)


def patch_batches(count: int, size: int, *, seed: int) -> Iterator[npt.NDArray[np.complex64]]:
    """`count` patches of noise, (up to 512, size, size) at a time."""
    rng = np.random.default_rng(seed)
    shape = (min(count, _DIFFERENT), size, size)
    patches = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    for first in range(0, count, _DIFFERENT):
        yield patches[: count - first]


def write_npy(path: Path, count: int, size: int, *, seed: int) -> None:
    """The patches as one `.npy`. Raises OSError."""
    with path.open("wb") as file:
        _write(file, count, size, seed)


def write_npz(path: Path, count: int, size: int, *, seed: int) -> None:
    """The patches as the member `patches` of an `.npz`, stored as numpy.savez does. Raises OSError."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("patches.npy", "w", force_zip64=True) as file:
        _write(file, count, size, seed)


def _write(file: IO[bytes], count: int, size: int, seed: int) -> None:
    header: dict[str, Any] = {"descr": "<c8", "fortran_order": False, "shape": (count, size, size)}
    npy.write_array_header_1_0(file, header)
    for batch in patch_batches(count, size, seed=seed):
        file.write(batch.tobytes())

"""Large scans for the benchmark of the reassembly, written without holding them in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.demo.scan_files import npy_writer, npz_writer
from stage_a_pipeline.reassembly.geometry import Positions

_DIFFERENT: Final = 512
"""So many patches are different; their files repeat them."""


def scan_positions(count: int, *, spread: float, seed: int) -> Positions:
    """(count, 2) positions of a raster over a square of that side, each moved by up to half a pixel."""
    steps = np.linspace(0, spread, math.ceil(math.sqrt(count)))
    raster = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)[:count]
    return raster + np.random.default_rng(seed).uniform(-0.5, 0.5, raster.shape)


def patch_batches(
    count: int, size: int, *, batch_size: int, seed: int
) -> Iterator[npt.NDArray[np.complex64]]:
    """`count` patches of noise, (up to `batch_size`, size, size) at a time."""
    rng = np.random.default_rng(seed)
    shape = (min(count, _DIFFERENT), size, size)
    patches = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    for first in range(0, count, batch_size):
        yield patches[np.arange(first, min(count, first + batch_size)) % len(patches)]


def write_patches(path: Path, count: int, size: int, *, seed: int) -> None:
    """The patches as one `.npy`, or as the member `patches` of an `.npz`. Raises OutputError."""
    shape = (count, size, size)
    writer = (
        npz_writer(path, "patches", shape=shape, dtype=np.complex64, others={})
        if path.suffix == ".npz"
        else npy_writer(path, shape=shape, dtype=np.complex64)
    )
    with writer as write:
        for batch in patch_batches(count, size, batch_size=_DIFFERENT, seed=seed):
            write(batch)

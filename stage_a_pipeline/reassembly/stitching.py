"""Patches from wherever they come to an object: arrays, files, or batches straight from a model."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.accumulator import Accumulator, Reassembly
from stage_a_pipeline.reassembly.geometry import Plan, Positions, as_positions, plan
from stage_a_pipeline.reassembly.patch_arrays import as_patches
from stage_a_pipeline.reassembly.sources import count_offsets, open_patches, read_offsets

DEFAULT_BATCH_SIZE: Final = 256
Tell = Callable[[int], None]
"""Is told how many patches lie on the canvas."""
TellOf = Callable[[int, int], None]
"""The same, and of how many."""


def reassemble_position(
    patches: Any,
    offsets: npt.ArrayLike,
    *,
    crop_size: int,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "cpu",
) -> Reassembly:
    """The object that overlapping patches at (x, y) positions make.

    `patches` are (B, N, N) or (B, N, N, 1) complex64: an array, a tensor, the path of an `.npy` or `.npz`, or
    an iterable of batches of any size. `offsets` are (B, 2) or flatten to it. Of each patch the middle
    `crop_size` x `crop_size` pixels count. Nothing depends on `batch_size` but memory and time. Raises
    ReassemblyError, a ValueError that names the argument.
    """
    size = _positive(batch_size)
    positions = as_positions(offsets)
    with ExitStack() as opened:
        if isinstance(patches, str | Path):
            file = opened.enter_context(open_patches(Path(patches)))
            _require_as_many(file.count, len(positions))
            side, batches = file.patch_size, file.batches(size)
        elif hasattr(patches, "__array__") or _lists_images(patches):
            whole = as_patches(patches)
            _require_as_many(len(whole), len(positions))
            side = whole.shape[1]
            batches = (whole[first : first + size] for first in range(0, len(whole), size))
        else:
            side, batches = _peek(patches)
        return accumulate(plan(positions, patch_size=side, crop_size=crop_size), batches, device=device)


def reassemble_file(
    patches: Path,
    offsets: Path,
    *,
    crop_size: int,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "cpu",
    tell: TellOf = lambda _done, _total: None,
) -> Reassembly:
    """As reassemble_position, from two files, which ReassemblyError names."""
    with open_patches(patches) as file:
        # Before they are read: a few bytes of an archive may be gigabytes of positions.
        if file.count != (found := count_offsets(offsets)):
            raise ReassemblyError(
                f"{patches}: {file.count} patches, where {offsets} has {found} positions; give one patch per "
                "position"
            )
        return stitch_from(
            patches,
            file.batches(_positive(batch_size)),
            read_offsets(offsets),
            patch_size=file.patch_size,
            crop_size=crop_size,
            device=device,
            tell=tell,
        )


def stitch_from(
    path: Path,
    batches: Iterable[Any],
    positions: Positions,
    *,
    patch_size: int,
    crop_size: int,
    device: str,
    tell: TellOf,
) -> Reassembly:
    """The object of batches that come in the order of their positions; ReassemblyError names the `path`."""
    tell(0, len(positions))
    try:
        geometry = plan(positions, patch_size=patch_size, crop_size=crop_size)
        return accumulate(geometry, batches, device=device, tell=lambda done: tell(done, len(positions)))
    except ReassemblyError as error:
        if str(path) in str(error):
            raise
        raise ReassemblyError(f"{path}: {error}") from error


def accumulate(
    geometry: Plan, batches: Iterable[Any], *, device: str = "cpu", tell: Tell = lambda _: None
) -> Reassembly:
    """The object of batches that come in the order of their positions. Raises ReassemblyError."""
    canvas = Accumulator(geometry, device=device)
    done = 0
    for batch in batches:
        canvas.add(batch)
        done += len(batch)
        tell(done)
    return canvas.result()


def _lists_images(patches: Any) -> bool:
    """Whether a list is one of (N, N) images; it may also be one of batches."""
    return isinstance(patches, list | tuple) and len(patches) > 0 and np.ndim(patches[0]) == 2


def _peek(batches: Iterable[Any]) -> tuple[int, Iterator[Any]]:
    """The patches' side, and all batches: the first of them tells it."""
    try:
        waiting = iter(batches)
    except TypeError:
        raise ReassemblyError(
            f"patches: {type(batches).__name__}; give an array, a tensor, a path, or an iterable of batches"
        ) from None
    for first in waiting:
        return as_patches(first).shape[1], chain([first], waiting)
    raise ReassemblyError("patches: empty; give one patch per position")


def _require_as_many(patches: int, positions: int) -> None:
    if patches != positions:
        raise ReassemblyError(
            f"patches: {patches}, but offsets has {positions} positions; give one patch per position"
        )


def _positive(batch_size: int) -> int:
    try:
        size = operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ReassemblyError(f"batch_size: {batch_size!r} is no number of patches; give 1 or more")
    return size

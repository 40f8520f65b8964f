"""The objects that are compared: stitched from patches, predicted by a model, or read from a file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.accumulator import Reassembly
from stage_a_pipeline.reassembly.geometry import Anchor, Positions
from stage_a_pipeline.reassembly.model_folder import ModelFile
from stage_a_pipeline.reassembly.model_prediction import load_predictor
from stage_a_pipeline.reassembly.npz_members import read_member
from stage_a_pipeline.reassembly.patch_arrays import finite
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction
from stage_a_pipeline.reassembly.scan_data import open_diffraction, read_positions
from stage_a_pipeline.reassembly.selection import Rows, Selection, chosen_rows, regrouped
from stage_a_pipeline.reassembly.sources import has_array, open_patches, read_offsets
from stage_a_pipeline.reassembly.stitching import DEFAULT_BATCH_SIZE, TellOf, stitch_from

_ALL: Final = Selection()
_SECONDS: Final = ("computation_time_seconds", "reconstruction_time")


@dataclass(frozen=True, slots=True)
class Stitching:
    """How patches become an object; the sizes only bound the memory."""

    test_data: Path
    selection: Selection = _ALL
    crop_size: int = 20
    batch_size: int = DEFAULT_BATCH_SIZE
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Predicting:
    """Diffraction patterns that are read at once, and that a model is given at once."""

    chunk_size: int = 1024
    batch_size: int = 32


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """A complex (rows, columns) object under the name of what it came from.

    `seconds` are those of predicting where a model did, and of stitching where patches were there; None where
    a stitched object tells none. Without an `anchor` it is not known where the object lies in the world.
    """

    name: str
    object: NDArray[Any]
    anchor: Anchor | None
    seconds: float | None


class Stitched(NamedTuple):
    """An object of so many patches, and the seconds that an Arm tells of."""

    reassembly: Reassembly
    patches: int
    seconds: float


def stitch_model(
    name: str, model: ModelFile, stitching: Stitching, predicting: Predicting, progress: TellOf
) -> Arm:
    """The object of a model's folder. Raises ReassemblyError, ConfigurationError."""
    if model.kind == "reconstruction":
        return read_arm(name, model.path)
    found = reassemble_model(model, stitching, predicting, progress)
    return Arm(name, found.reassembly.object, found.reassembly.anchor, found.seconds)


def reassemble_model(
    model: ModelFile, stitching: Stitching, predicting: Predicting, progress: TellOf
) -> Stitched:
    """The object of patches, or of a model that predicts some. Raises ReassemblyError, ConfigurationError."""
    assert model.kind != "reconstruction", f"{model.path} is stitched already"
    if model.kind == "patches":
        return _stitch_patches(model, stitching, progress)
    return _predict(model, stitching, predicting, progress)


def read_arm(name: str, path: Path) -> Arm:
    """An object that is already stitched. ReassemblyError names the file."""
    found = read_reconstruction(path)
    if not finite(found.object).all():
        raise ReassemblyError(
            f"{path}: reconstructed_object has values that are not finite; reconstruct it anew"
        )
    return Arm(name, found.object, found.anchor, _read_seconds(path))


def read_third_arm(path: Path) -> Arm:
    """The object of another program, named by the file's `algorithm`: Tike, or PtyChi for all others."""
    algorithm = "tike"
    if has_array(path, "algorithm"):
        found = read_member(path, "algorithm")
        if found.size != 1:
            raise ReassemblyError(f"{path}: algorithm is no single name; correct it, or leave it out")
        algorithm = str(found.item())
    return read_arm("Tike" if algorithm.strip().lower() == "tike" else "PtyChi", path)


def _read_seconds(path: Path) -> float | None:
    for name in _SECONDS:
        if has_array(path, name):
            found = read_member(path, name)
            if found.size != 1 or found.dtype.kind not in "fiu" or not 0 <= found.item() < np.inf:
                raise ReassemblyError(f"{path}: {name} is no number of seconds; correct it, or leave it out")
            return float(found.reshape(-1)[0])
    return None


def _stitch_patches(model: ModelFile, stitching: Stitching, progress: TellOf) -> Stitched:
    started = time.perf_counter()
    with open_patches(model.path) as patches:
        positions, rows = _positions(model, stitching, patches.count)
        batches = chosen_rows(patches.batches(stitching.batch_size), rows)
        found = _stitch(model.path, batches, positions[rows], patches.patch_size, stitching, progress)
    return Stitched(found, int(rows.sum()), time.perf_counter() - started)


def _predict(model: ModelFile, stitching: Stitching, predicting: Predicting, progress: TellOf) -> Stitched:
    with open_diffraction(stitching.test_data) as diffraction:
        positions, rows = _positions(model, stitching, diffraction.count)
        predictor = load_predictor(model, stitching.device)
        patterns = chosen_rows(diffraction.batches(predicting.chunk_size), rows)
        batches = map(predictor.predict, regrouped(patterns, predicting.batch_size))
        found = _stitch(model.path, batches, positions[rows], diffraction.side, stitching, progress)
    return Stitched(found, int(rows.sum()), predictor.seconds)


def _stitch(
    path: Path,
    batches: Iterable[Any],
    positions: Positions,
    patch_size: int,
    stitching: Stitching,
    progress: TellOf,
) -> Reassembly:
    """The object of batches that come in the order of their positions; errors name the `path`."""
    smaller = (
        batch[first : first + stitching.batch_size]
        for batch in batches
        for first in range(0, len(batch), stitching.batch_size)
    )
    return stitch_from(
        path,
        smaller,
        positions,
        patch_size=patch_size,
        crop_size=stitching.crop_size,
        device=stitching.device,
        tell=progress,
    )


def _positions(model: ModelFile, stitching: Stitching, count: int) -> tuple[Positions, Rows]:
    """The positions of all patches, and which are chosen. A selection counts by the test data's positions."""
    test_data, selection = stitching.test_data, stitching.selection
    offsets = model.offsets if model.kind == "patches" else None
    source = str(offsets or test_data)
    positions = read_positions(test_data) if offsets is None else read_offsets(offsets)
    if positions is None:
        raise ReassemblyError(
            f"{test_data}: has neither `xcoords` nor `ycoords`, and {model.path} comes without positions; "
            "save them in either place"
        )
    wanted = {source: len(positions)}
    if selection.asked and offsets is not None:
        scanned = read_positions(test_data)
        wanted |= {} if scanned is None else {str(test_data): len(scanned)}
    for place, number in wanted.items():
        if number != count:
            held = model.path if model.kind == "patches" else test_data
            raise ReassemblyError(
                f"{held}: {count} patches, where {place} has {number} positions; give one patch per position"
            )
    return positions, selection.rows(count, source=source)

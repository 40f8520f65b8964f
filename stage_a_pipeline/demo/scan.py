"""The demo scan: one synthetic ptychography data set, with two imperfect models and the known right answer.

`test_data.npz`, the true patches in `true/`, those of two models in `pinn/` and `baseline/`, and in
`truth.json` how the models err. Everything is drawn and written in batches: what a scan needs of memory is
its specimen three times over, whatever the number of positions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.demo.scan_files import WriteBatch, npy_writer, npz_writer, write_npy
from stage_a_pipeline.demo.scan_models import MODELS, ImperfectModel, Positions, sample_patches
from stage_a_pipeline.demo.scan_object import Image, draw_object, draw_probe
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors, unfinished_folder

TEST_DATA_NAME: Final = "test_data.npz"
TRUTH_NAME: Final = "truth.json"
TRUE_MODEL: Final = "true"

STEP: Final = 10.0
"""Pixels from one position to the next: the middle 20 px of neighbouring patches overlap by half."""
JITTER: Final = 0.15
"""How far a position strays from its place in the raster, per axis and as a share of the step."""
FEWEST_PIXELS: Final = 4
"""Smallest side of a patch."""
_BATCH: Final = 256
_UNFINISHED: Final = ".stage-a-demo-scan"
"""Holds the files of a scan that is being written, in its folder."""


@dataclass(frozen=True, slots=True)
class DemoScan:
    """A data set that was written. `height` and `width` are those of its specimen, in px."""

    folder: Path
    positions: int
    patch_size: int
    height: int
    width: int

    def sentence(self) -> str:
        """The data set in one line, for a terminal."""
        size = self.patch_size
        return (
            f"{self.positions} positions of {size} x {size} px on a specimen of {self.width} x {self.height} "
            f"px in {self.folder}: {TEST_DATA_NAME}, patches of {', '.join([*MODELS, TRUE_MODEL])}; "
            f"how the models err is in {TRUTH_NAME}"
        )

    def next_command(self) -> str:
        """The command that compares the two models."""
        return (
            f"stage-a compare-models --pinn_dir {self._quoted('pinn')} "
            f"--baseline_dir {self._quoted('baseline')} --test_data {self._quoted(TEST_DATA_NAME)} "
            f"--output_dir {self._quoted('comparison')}"
        )

    def _quoted(self, name: str) -> str:
        return quote(str(self.folder / name))


@dataclass(frozen=True, slots=True)
class _Scan:
    """What is scanned, with what, and where: positions (n, 2) are x, y in pixels of the specimen."""

    specimen: Image
    probe: Image
    positions: Positions

    @property
    def patches_shape(self) -> tuple[int, int, int]:
        return (len(self.positions), *self.probe.shape)

    def batches(self) -> Iterator[Positions]:
        for start in range(0, len(self.positions), _BATCH):
            yield self.positions[start : start + _BATCH]


def write_demo_scan(
    folder: Path, *, positions: int = 400, patch_size: int = 64, seed: int = 1, step: float = STEP
) -> DemoScan:
    """Write the data set of a scan of `positions` places, `step` px apart, into an empty or new folder.

    The same arguments write the same bytes. `test_data.npz` appears last, when all else is there. Raises
    ConfigurationError for an argument out of range or a folder that holds anything, and OutputError where
    it cannot be written.
    """
    _require(positions >= 1, f"positions must be at least 1, not {positions}")
    _require(patch_size >= FEWEST_PIXELS, f"patch size must be at least {FEWEST_PIXELS}, not {patch_size}")
    _require(seed >= 0, f"seed must be at least 0, not {seed}")
    _require(math.isfinite(step) and step > 0, f"step must be a number of pixels above 0, not {step}")
    with _appearing_together(folder) as unfinished:
        scan = _plan_scan(positions, patch_size, seed, step)
        _write_patches(unfinished, scan, seed)
        _write_truth(unfinished / TRUTH_NAME, scan, seed, step)
    height, width = scan.specimen.shape
    return DemoScan(folder=folder, positions=positions, patch_size=patch_size, height=height, width=width)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigurationError(f"demo scan: {otherwise}")


def _plan_scan(count: int, patch_size: int, seed: int, step: float) -> _Scan:
    """A raster that is about square, row by row, each position moved a little at random.

    Their mean is a whole pixel, and so is the canvas's place in the specimen: a registration then finds
    what the models are shifted by, and nothing else.
    """
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    # Room for the jitter, for what the models look beyond, and for the square canvas of an uneven raster.
    margin = patch_size // 2 + 2 * step + max(model.reach() for model in MODELS.values()) + 3
    down, across = np.divmod(np.arange(count), columns)
    stray = np.random.default_rng([seed, 2]).uniform(-JITTER, JITTER, (count, 2))
    positions = margin + step * (np.stack([across, down], axis=1) + stray)
    positions += np.rint(positions.mean(axis=0)) - positions.mean(axis=0)
    height, width = (math.ceil(2 * margin + step * (places - 1)) + 1 for places in (rows, columns))
    return _Scan(draw_object(height, width, seed=seed), draw_probe(patch_size), positions)


def _write_patches(folder: Path, scan: _Scan, seed: int) -> None:
    """One pass over the scan, with all files open."""
    models = {
        name: ImperfectModel(scan.specimen, model, seed=[seed, 3, place])
        for place, (name, model) in enumerate(MODELS.items())
    }
    with ExitStack() as files:
        write_measured = files.enter_context(_open_measured(folder / TEST_DATA_NAME, scan))
        write_of = {
            name: files.enter_context(_open_patches(ensure_folder(folder / name), scan))
            for name in (*models, TRUE_MODEL)
        }
        for batch in scan.batches():
            patches = sample_patches(scan.specimen, batch, size=len(scan.probe))
            write_measured(diffract(patches, scan.probe))
            write_of[TRUE_MODEL](patches)
            for name, model in models.items():
                write_of[name](model.predict(batch, size=len(scan.probe)))


def _open_measured(path: Path, scan: _Scan) -> AbstractContextManager[WriteBatch]:
    others: dict[str, npt.NDArray[Any]] = {
        "xcoords": scan.positions[:, 0],
        "ycoords": scan.positions[:, 1],
        "probeGuess": scan.probe,
        "objectGuess": scan.specimen,
    }
    return npz_writer(path, "diffraction", shape=scan.patches_shape, dtype=np.float32, others=others)


def _open_patches(folder: Path, scan: _Scan) -> AbstractContextManager[WriteBatch]:
    """The baseline's patches are bare arrays, those of all others one archive: both are there to be read."""
    shape = scan.patches_shape
    if folder.name == "baseline":
        write_npy(folder / "offsets.npy", scan.positions)
        return npy_writer(folder / "patches.npy", shape=shape, dtype=np.complex64)
    others = {"offsets": scan.positions}
    return npz_writer(folder / "patches.npz", "patches", shape=shape, dtype=np.complex64, others=others)


def diffract(patches: Image, probe: Image) -> npt.NDArray[np.float32]:
    """The amplitudes (n, N, N) behind patches (n, N, N) in the beam (N, N), zero frequency in the middle."""
    waves = np.fft.fftshift(np.fft.fft2(probe * patches), axes=(-2, -1))
    return np.abs(waves).astype(np.float32)


def _write_truth(path: Path, scan: _Scan, seed: int, step: float) -> None:
    """The known right answer: `shift_y` and `shift_x` are what a registration has to find."""
    truth = {
        "seed": seed,
        "positions": len(scan.positions),
        "patch_size": len(scan.probe),
        "step": step,
        "models": {name: asdict(model) for name, model in MODELS.items()},
    }
    with atomic_write(path) as file:
        json.dump(truth, file, indent=2)
        file.write("\n")


@contextmanager
def _appearing_together(folder: Path) -> Iterator[Path]:
    """A folder to fill, whose files are moved into `folder` when the block ends; TEST_DATA_NAME last."""
    unfinished = ensure_folder(folder) / _UNFINISHED
    with output_errors(folder):
        foreign = sorted(path.name for path in folder.iterdir() if path.name != _UNFINISHED)
    if foreign:
        raise ConfigurationError(
            f"folder {folder} holds files already, such as {foreign[0]}; "
            "choose an empty or new folder, or move them away"
        )
    with unfinished_folder(unfinished):
        yield unfinished
        with output_errors(folder):
            for path in sorted(unfinished.iterdir(), key=lambda path: path.name == TEST_DATA_NAME):
                path.rename(folder / path.name)

"""Small scans on disk: test data, and folders of models that know the truth more or less well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from tests.reassembly.images import smooth_object

SIDE = 16
"""Rows and columns of patches and patterns."""


@dataclass(frozen=True)
class Scan:
    """A scan in `folder`: its positions (n, 2), x before y, and its true patches (n, N, N)."""

    folder: Path
    truth: np.ndarray
    positions: np.ndarray
    patches: np.ndarray

    @property
    def test_data(self) -> Path:
        return self.folder / "test_data.npz"

    def noisy(self, level, *, seed=0):
        """The patches with noise of that level."""
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((2, *self.patches.shape))
        return (self.patches + level * (noise[0] + 1j * noise[1])).astype(np.complex64)

    def write(self, **members):
        """Replace the test data."""
        np.savez(self.test_data, **members)

    def members(self, *left_out):
        """What the test data holds, less some."""
        x, y = self.positions.T
        everything = {
            "diffraction": np.abs(self.patches).astype(np.float32),
            "xcoords": x,
            "ycoords": y,
            "objectGuess": self.truth,
        }
        return {name: value for name, value in everything.items() if name not in left_out}


def make_scan(folder, *, rows=72, columns=80, step=5, seed=0):
    """A scan of an object of that size, at positions about `step` pixels apart."""
    # Rough enough that a shift can be told.
    truth = smooth_object(rows, columns, seed=seed, sigma=0.8)
    rng = np.random.default_rng(seed)
    half = SIDE // 2
    y, x = np.meshgrid(
        np.arange(half + 1, rows - half - 1, step),
        np.arange(half + 1, columns - half - 1, step),
        indexing="ij",
    )
    positions = np.stack([x, y], axis=1) + rng.uniform(-0.9, 0.9, (x.size, 2))
    patches = np.stack([sampled(truth, x, y) for x, y in positions]).astype(np.complex64)
    folder.mkdir(parents=True, exist_ok=True)
    scan = Scan(folder, truth, positions, patches)
    scan.write(**scan.members())
    return scan


def sampled(truth, x, y):
    """The patch whose pixel (N//2, N//2) lies at (x, y), bilinear."""
    grid = np.mgrid[:SIDE, :SIDE] - SIDE // 2 + np.array([y, x])[:, None, None]
    real, imaginary = (
        map_coordinates(part, grid, order=1, mode="nearest") for part in (truth.real, truth.imag)
    )
    return real + 1j * imaginary


def write_patches(folder, patches, positions=None):
    """patches.npz with positions, patches.npy without."""
    folder.mkdir(parents=True, exist_ok=True)
    if positions is None:
        np.save(folder / "patches.npy", patches)
    else:
        np.savez(folder / "patches.npz", patches=patches, offsets=positions)
    return folder

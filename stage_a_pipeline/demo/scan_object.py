"""An invented specimen and the beam that scans it: what a demo scan is a scan of.

The specimen is a ground that varies on all scales, with a lattice of antenna-like cells, a Siemens star
and a few rings on it. Amplitude and phase share the star and the cells; the ground differs, and the rings
are in the phase alone.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.complex64]
Plane: TypeAlias = npt.NDArray[np.floating[Any]]

AMPLITUDES: Final = (0.6, 1.0)
PHASE_LIMIT: Final = 1.4
"""Radians. Far enough from pi for a model's own constant phase not to wrap it."""

_CELL: Final = 28.0
"""Pixels from one cell of the lattice to the next."""
_SPOKES: Final = 18


def draw_object(height: int, width: int, *, seed: int) -> Image:
    """The specimen, (height, width): amplitude within AMPLITUDES, phase within +-PHASE_LIMIT, no wraps."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    side = min(height, width)
    star = _star(rows - 0.46 * height, columns - 0.47 * width, radius=0.24 * side)
    cells = _cells(rows, columns) * _corner(rows / height, columns / width)
    rings = _rings(rows - 0.70 * height, columns - 0.32 * width, radius=0.17 * side)
    ground = _ground(height, width, seed=[seed, 0], roughness=1.4)
    other = _ground(height, width, seed=[seed, 1], roughness=2.2)
    amplitude = _within(0.35 * ground - 0.9 * star - 0.9 * cells, *AMPLITUDES)
    phase = _within(0.8 * other + 0.8 * star + 0.5 * cells + 0.6 * rings, -PHASE_LIMIT, PHASE_LIMIT)
    specimen: Image = (amplitude * np.exp(1j * phase)).astype(np.complex64)
    return specimen


def draw_probe(size: int) -> Image:
    """The beam, (size, size): a soft disc under a Gaussian, curved by defocus; 1 in the middle."""
    axis = np.arange(size, dtype=np.float64) - size // 2
    radius = np.hypot(axis[:, None], axis[None, :]) / size
    disc = 0.5 * (1 - np.tanh((radius - 0.27) * 40))
    gauss = np.exp(-0.5 * (radius / 0.19) ** 2)
    defocus = np.exp(1j * 28.0 * radius**2)
    probe = disc * gauss * defocus
    scaled: Image = (probe / np.abs(probe).max()).astype(np.complex64)
    return scaled


def _star(rows: Plane, columns: Plane, *, radius: float) -> Plane:
    """Spokes of 0 and 1 that get finer towards the middle, with soft edges of about a pixel."""
    distance = np.hypot(rows, columns)
    spokes = np.sin(_SPOKES * np.arctan2(rows, columns))
    # The slope of the sine, in pixels, falls with the distance.
    edge = np.maximum(distance, 1.0) / _SPOKES
    star: Plane = (0.5 + 0.5 * np.tanh(spokes * edge)) * _soft(radius - distance) * _soft(distance - 3)
    return star


def _cells(rows: Plane, columns: Plane) -> Plane:
    """Squares in a lattice, each with a cross-shaped slot in it, as patch antennas have."""
    across, down = (_to_nearest(axis) for axis in (columns, rows))
    square = _soft(9.0 - np.maximum(np.abs(across), np.abs(down)))
    slot = _soft(1.5 - np.minimum(np.abs(across - down), np.abs(across + down)) / np.sqrt(2.0))
    inside = _soft(6.0 - np.maximum(np.abs(across), np.abs(down)))
    return square * (1 - slot * inside)


def _corner(down: Plane, across: Plane) -> Plane:
    """1 in the lower right half of the specimen, 0 in the upper left: where the lattice is."""
    return _soft((down + across - 1.12) * 40)


def _rings(rows: Plane, columns: Plane, *, radius: float) -> Plane:
    distance = np.hypot(rows, columns)
    return np.cos(2 * np.pi * distance / max(radius / 3, 5.0)) * _soft((radius - distance) / 2)


def _ground(height: int, width: int, *, seed: list[int], roughness: float) -> Plane:
    """Noise on all scales, of mean 0 and deviation 1: the amplitude of a frequency falls as 1/f^roughness."""
    noise = np.random.default_rng(seed).standard_normal((height, width), dtype=np.float32)
    spectrum = np.fft.rfft2(noise)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    # Nothing is longer than 100 px, so that a large specimen has as much to see in every part of it.
    spectrum *= (1 / np.hypot(frequency, 0.01) ** roughness).astype(np.float32)
    ground: Plane = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    ground -= ground.mean()
    return ground / max(float(ground.std()), 1e-6)


def _to_nearest(axis: Plane) -> Plane:
    """The signed distance to the nearest middle of a cell, in pixels."""
    return (axis / _CELL - np.round(axis / _CELL)) * _CELL


def _soft(inside: Plane) -> Plane:
    """1 where `inside` is above 0, 0 below, over about two pixels."""
    return 0.5 + 0.5 * np.tanh(inside)


def _within(values: Plane, low: float, high: float) -> Plane:
    """Squeezed smoothly into (low, high); the middle, where most values lie, keeps its contrast."""
    centred = (values - np.median(values)) / (2 * values.std() + 1e-6)
    squeezed: Plane = (low + high) / 2 + (high - low) / 2 * np.tanh(centred)
    return squeezed

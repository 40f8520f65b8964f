"""The formulas of the reassembly once more: slow, in float64, one whole canvas per patch."""

from __future__ import annotations

import math

import numpy as np


def exact_object(patches, offsets, crop_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Object, count, mean (x, y) and pad."""
    patches = np.asarray(patches, np.complex128).reshape(len(patches), *np.shape(patches)[1:3])
    offsets = np.asarray(offsets, np.float64).reshape(-1, 2)
    mean = offsets.mean(axis=0)
    shifts = offsets - mean
    near = np.abs(shifts - np.round(shifts)) <= 1e-5
    shifts[near] = np.round(shifts[near])
    pad = math.ceil(np.abs(shifts).max())
    pad += pad % 2
    side = crop_size + 2 * pad
    first = patches.shape[1] // 2 - crop_size // 2
    sums, counts = np.zeros((side, side), complex), np.zeros((side, side))
    for patch, (dx, dy) in zip(patches, shifts, strict=True):
        canvas, ones = np.zeros((side, side), complex), np.zeros((side, side))
        canvas[pad : pad + crop_size, pad : pad + crop_size] = patch[first:, first:][:crop_size, :crop_size]
        ones[pad : pad + crop_size, pad : pad + crop_size] = 1
        sums += translated(canvas, dx, dy)
        counts += translated(ones, dx, dy)
    return sums / (1e-9 + counts), counts, mean, pad


def translated(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The image moved right and down by bilinear interpolation, 0 outside."""
    rows, columns = np.indices(image.shape)
    moved = np.zeros_like(image)
    y, x = rows - dy, columns - dx
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
            values = image[np.clip(row, 0, image.shape[0] - 1), np.clip(column, 0, image.shape[1] - 1)]
            moved += np.where(inside, values * row_weight * column_weight, 0)
    return moved


def random_patches(count: int, size: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, size, size)) + 1j * rng.normal(size=(count, size, size))).astype(
        np.complex64
    )


def random_offsets(count: int, spread: float, *, seed: int = 0) -> np.ndarray:
    around = np.random.default_rng(seed + 1).uniform(-spread, spread, (count, 2))
    return around + np.array([1000.3, -250.7])

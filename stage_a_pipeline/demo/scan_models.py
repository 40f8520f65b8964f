"""What two imperfect models would predict: the specimen blurred, moved and noisy to known degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.demo.scan_object import Image

Positions = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Degradation:
    """How a model's patches differ from the true ones.

    `shift_y` and `shift_x` (px) is what moves the model's object onto the true one: a registration has to
    find it. `blur` is a Gaussian's sigma in px, `noise` the deviation of real and imaginary part per pixel
    of a patch, `scale` a factor of the amplitude, `phase` a constant in radians.
    """

    shift_y: float
    shift_x: float
    blur: float
    noise: float
    scale: float
    phase: float

    def reach(self) -> float:
        """How far, in px, a predicted patch looks beyond the true one."""
        return max(abs(self.shift_y), abs(self.shift_x))


MODELS: Final = {
    "pinn": Degradation(shift_y=0.36, shift_x=-0.52, blur=0.5, noise=0.01, scale=1.0, phase=0.1),
    "baseline": Degradation(shift_y=-0.74, shift_x=0.44, blur=0.9, noise=0.05, scale=0.9, phase=0.4),
}


def sample_patches(image: Image, positions: Positions, *, size: int) -> Image:
    """The patches (n, size, size) of `image` at `positions` (n, 2) x, y, between pixels bilinearly.

    Pixel (i, j) of a patch is the image at row y - size//2 + i, column x - size//2 + j. All of them and
    one more row and column must lie within the image.
    """
    corners = positions - size // 2
    whole = np.floor(corners).astype(np.intp)
    right, down = (corners - whole).astype(np.float32).T[:, :, None, None]
    windows = np.lib.stride_tricks.sliding_window_view(image, (size + 1, size + 1))
    found = windows[whole[:, 1], whole[:, 0]]
    rows = found[:, :-1] * (1 - down) + found[:, 1:] * down
    return np.ascontiguousarray(rows[:, :, :-1] * (1 - right) + rows[:, :, 1:] * right)


class ImperfectModel:
    """Predicts patches as `degradation` says. Patches are drawn one after another: their noise depends on
    the order, not on how many are asked for at once.
    """

    def __init__(self, truth: Image, degradation: Degradation, *, seed: list[int]) -> None:
        self._degradation = degradation
        factor = degradation.scale * np.exp(1j * degradation.phase)
        self._seen = _blurred(truth, degradation.blur) * np.complex64(factor)
        self._random = np.random.default_rng(seed)

    def predict(self, positions: Positions, *, size: int) -> Image:
        """The patches (n, size, size) at `positions` (n, 2) x, y."""
        moved = positions + np.array([self._degradation.shift_x, self._degradation.shift_y])
        patches = sample_patches(self._seen, moved, size=size)
        noise = self._random.standard_normal((*patches.shape, 2), dtype=np.float32)
        return patches + noise.view(np.complex64)[..., 0] * np.float32(self._degradation.noise)


def _blurred(image: Image, sigma: float) -> Image:
    """Convolved with a Gaussian of `sigma` px; the image goes round at its edges."""
    reach = int(np.ceil(4 * sigma))
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        blurred = np.zeros_like(image)
        for step, weight in zip(steps, weights, strict=True):
            blurred += np.roll(image, step, axis) * np.float32(weight)
        image = blurred
    return image

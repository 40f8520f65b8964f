"""From where a scene is seen: the slight perspective of a photo taken by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.demo.scenes import Box, Scene

Corner = tuple[float, float]

SHIFT: Final = 0.032
"""How far, in fractions of the view, a corner of the photo lies off the corner of a frontal view."""

MARGIN: Final = 0.04
"""How much of the wall beyond a frontal view is drawn, so that every viewpoint sees wall only."""

_FRONTAL: Final[tuple[Corner, ...]] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True)
class Viewpoint:
    """The points of the scene's plane that lie in the photo's corners, clockwise from the upper left."""

    corners: tuple[Corner, ...]

    @classmethod
    def of(cls, scene: Scene) -> Viewpoint:
        """The viewpoint that the scene's seed decides."""
        rng = Random(f"{scene.seed}/viewpoint")
        return cls(
            tuple((x + rng.uniform(-SHIFT, SHIFT), y + rng.uniform(-SHIFT, SHIFT)) for x, y in _FRONTAL)
        )

    def photo_to_plane(self, width: int, height: int) -> tuple[float, ...]:
        """Coefficients for `Image.transform`: pixels of the photo to pixels of the drawn plane.

        Both are of `width` x `height` pixels, the plane with MARGIN around it.
        """
        photo = [(x * width, y * height) for x, y in _FRONTAL]
        plane = [((x + MARGIN) * width, (y + MARGIN) * height) for x, y in self.corners]
        return tuple(_homography(photo, plane).flatten()[:8])

    def seen(self, box: Box) -> Box:
        """The upright box around what a box of the plane covers in the photo."""
        left, top, right, bottom = box
        corners = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)])
        x, y, scale = self._plane_to_photo @ corners.T
        across, down = x / scale, y / scale
        return float(across.min()), float(down.min()), float(across.max()), float(down.max())

    @cached_property
    def _plane_to_photo(self) -> npt.NDArray[np.float64]:
        return _homography(self.corners, _FRONTAL)


def _homography(source: Sequence[Corner], target: Sequence[Corner]) -> npt.NDArray[np.float64]:
    """The projective map [3, 3], its last entry 1, that takes four points to four others."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return np.append(solved, 1.0).reshape(3, 3)

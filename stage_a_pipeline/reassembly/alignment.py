"""The part of the true object that a reconstruction shows."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.cropping import centre_crop


class Corner(Protocol):
    """Where a canvas lies in the world, as an Anchor tells it."""

    @property
    def top(self) -> float:
        """The world's y of its first row."""

    @property
    def left(self) -> float:
        """The world's x of its first column."""


class Aligned(NamedTuple):
    """A reconstruction and the truth of the same pixels, of one shape."""

    reconstruction: NDArray[Any]
    truth: NDArray[Any]


def align(
    reconstruction: NDArray[Any], truth: NDArray[Any], corner: Corner | None, *, name: str = "reconstruction"
) -> Aligned:
    """Crop the truth to the pixels of a canvas that lies at `corner`; without one, both to their centres.

    World coordinates are pixels of the truth; the corner is rounded to whole ones. Where the canvas leaves
    the truth, both are cropped to what they share. ReassemblyError, which tells the `name`, where that is
    nothing.
    """
    if corner is not None:
        rows, columns = (
            _shared(at, mine, whole)
            for at, mine, whole in zip(_pixel(corner), reconstruction.shape, truth.shape, strict=True)
        )
        reconstruction = reconstruction[rows.canvas, columns.canvas]
        seen = truth[rows.world, columns.world]
        if not seen.size:
            top, left = _pixel(corner)
            raise ReassemblyError(
                f"{name} lies at row {top}, column {left} of an object of "
                f"{truth.shape[0]}x{truth.shape[1]} pixels and shares none with it; give positions in pixels "
                "of objectGuess, x before y"
            )
        truth = seen
    return _common(reconstruction, truth)


def world_box(truth: NDArray[Any], corner: Corner, side: int) -> NDArray[Any]:
    """The truth's part within a square canvas at `corner`; empty where they share nothing."""
    rows, columns = (
        _shared(at, side, whole).world for at, whole in zip(_pixel(corner), truth.shape, strict=True)
    )
    return truth[rows, columns]


def _common(reconstruction: NDArray[Any], truth: NDArray[Any]) -> Aligned:
    rows, columns = map(min, reconstruction.shape, truth.shape)
    return Aligned(centre_crop(reconstruction, (rows, columns)), centre_crop(truth, (rows, columns)))


class _Span(NamedTuple):
    """The same pixels along one axis, in the world and on the canvas."""

    world: slice
    canvas: slice


def _pixel(corner: Corner) -> tuple[int, int]:
    return int(np.floor(corner.top + 0.5)), int(np.floor(corner.left + 0.5))


def _shared(start: int, canvas: int, world: int) -> _Span:
    first = min(max(start, 0), world)
    last = max(first, min(start + canvas, world))
    return _Span(slice(first, last), slice(first - start, last - start))

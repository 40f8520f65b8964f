"""An object at a glance: its amplitude in grey, its phase as hue, side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from stage_a_pipeline.storage import atomic_write

_SIDE: Final = 512
"""Pixels of each half; larger objects are averaged down, smaller ones drawn pixel by pixel."""
_GAP: Final = 8
_OUTLIERS: Final = (0.5, 99.5)
"""Percentiles that the greys span: a few pixels at the border would take all contrast from the rest."""
_BEST, _NEAREST = Pillow.Resampling.BOX, Pillow.Resampling.NEAREST


def object_png(image: npt.NDArray[Any], *, side: int = _SIDE) -> bytes:
    """A PNG of a complex (rows, columns) object, each half `side` pixels wide. What is exactly 0 is white."""
    halves = [_half(part, side) for part in (_amplitude(image), _phase(image))]
    height = max(half.height for half in halves)
    canvas = Pillow.new("RGB", (2 * side + _GAP, height), "white")
    for place, half in zip((0, side + _GAP), halves, strict=True):
        canvas.paste(half, (place, 0))
    content = io.BytesIO()
    canvas.save(content, "PNG")
    return content.getvalue()


def write_object_picture(path: Path, image: npt.NDArray[Any]) -> None:
    """Write object_png to a file. Raises OutputError."""
    with atomic_write(path, "wb") as file:
        file.write(object_png(image))


def _half(pixels: npt.NDArray[np.uint8], side: int) -> Pillow.Image:
    picture = Pillow.fromarray(pixels)
    height = max(1, round(side * picture.height / picture.width))
    return picture.resize((side, height), _BEST if picture.width > side else _NEAREST)


def _amplitude(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    amplitude = np.abs(_thinned(image))
    placed = amplitude[amplitude > 0]
    low, high = np.percentile(placed, _OUTLIERS) if placed.size else (0.0, 1.0)
    shares = np.clip((amplitude - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return _on_white(np.repeat((255 * shares).astype(np.uint8)[..., None], 3, axis=2), amplitude)


def _phase(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    thinned = _thinned(image)
    hue = ((np.angle(thinned) / (2 * np.pi)) % 1 * 255).astype(np.uint8)
    full = np.full_like(hue, 255)
    hues = Pillow.merge("HSV", [Pillow.fromarray(part) for part in (hue, full // 2, full)])
    return _on_white(np.asarray(hues.convert("RGB")), np.abs(thinned))


def _on_white(pixels: npt.NDArray[np.uint8], amplitude: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.where(amplitude[..., None] > 0, pixels, np.uint8(255))


def _thinned(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every so many pixels of an object that would take gigabytes to be drawn whole."""
    step = max(1, max(image.shape) // (4 * _SIDE))
    return image[::step, ::step]

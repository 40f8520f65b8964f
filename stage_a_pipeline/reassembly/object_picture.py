"""Small pictures of complex objects, and of larger pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GAP: Final = 8
"""Pixels between the two panels."""
_OUTLIERS: Final = (0.5, 99.5)
"""Percentiles of amplitudes that are dark and white: a few pixels at the border would take all contrast."""
_DARKEST: Final = 24
"""Shade of the darkest pixel that has a patch; 0 is for those without."""


def object_png(image: NDArray[Any], *, width: int = 512) -> bytes:
    """A PNG of up to `width` pixels: the amplitude in grey, and beside it the phase as a hue, -pi to pi.

    Pixels without a patch are black in both.
    """
    side = max(1, (width - _GAP) // 2)
    step = max(1, -(-image.shape[1] // side))
    seen = image[::step, ::step]
    rows, columns = seen.shape
    joined = Image.new("RGB", (2 * columns + _GAP, rows), "white")
    joined.paste(_grey(np.abs(seen)), (0, 0))
    joined.paste(_hues(seen), (columns + _GAP, 0))
    return _png(joined)


def smaller_png(path: Path, *, width: int) -> bytes:
    """The picture in `path` as a PNG of up to `width` pixels."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    whole.thumbnail((width, whole.height), Image.Resampling.LANCZOS)
    return _png(whole)


def _grey(amplitude: NDArray[Any]) -> Image.Image:
    finite = np.nan_to_num(amplitude, posinf=0.0)
    placed = finite[finite > 0]
    if not placed.size:
        return Image.new("L", amplitude.shape[::-1])
    dark, white = np.percentile(placed, _OUTLIERS)
    shades = np.clip((finite - dark) / max(float(white - dark), 1e-12), 0, 1) * (255 - _DARKEST) + _DARKEST
    return Image.fromarray(np.where(finite > 0, shades, 0).astype(np.uint8))


def _hues(image: NDArray[Any]) -> Image.Image:
    hue = (np.nan_to_num(np.angle(image)) / (2 * np.pi) + 0.5) * 255
    full = np.full(image.shape, 255.0)
    value = np.where(image == 0, 0, 230.0)
    bands = np.stack([hue, full * 0.8, value], axis=-1).astype(np.uint8)
    return Image.fromarray(bands, "HSV").convert("RGB")


def _png(picture: Image.Image) -> bytes:
    """With 256 colours, which such pictures do with: they are stored in Dagster's event log."""
    data = io.BytesIO()
    picture.quantize(256).save(data, "PNG", optimize=True)
    return data.getvalue()

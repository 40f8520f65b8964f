"""Soft surfaces for a canvas: gradients, clouds and glows, the same at every size."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from PIL import Image

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour
from stage_a_pipeline.demo.rendering.frame import Point

_CLOUDS: Final = (160, 120)
"""Size of a mask before it is stretched over the canvas, so that every size gets the same one."""
_RIM: Final = 181
"""What Pillow's radial gradient, 0 at its centre, reaches in the middle of an edge."""


def fill_gradient(canvas: Canvas, colours: Sequence[Colour], *, bottom: float | None = None) -> None:
    """Fill the canvas from its top down to `bottom` (a pixel row) with a blend of the colours."""
    width, height = _down_to(canvas, bottom)
    strip = Image.new("RGB", (1, len(colours)))
    strip.putdata(list(colours))
    column = strip.resize((1, height), Image.Resampling.BILINEAR)
    canvas.picture.paste(column.resize((width, height), Image.Resampling.NEAREST))


def cloud_mask(rng: Random, columns: int, rows: int) -> Image.Image:
    """Smooth noise: blobs of about a picture's width by `columns`, with two finer layers."""
    mask = _noise(rng, columns, rows)
    for octave, share in ((2, 0.35), (5, 0.2)):
        mask = Image.blend(mask, _noise(rng, columns * octave, rows * octave), share)
    return mask


def threshold(mask: Image.Image, level: int, softness: int) -> Image.Image:
    """The mask, nothing below `level` and full from `level + softness` on."""
    return mask.point([max(0, min(255, (value - level) * 255 // softness)) for value in range(256)])


def lay(canvas: Canvas, colour: Colour, mask: Image.Image, *, bottom: float | None = None) -> None:
    """Lay a colour over the canvas, down to `bottom`, where the mask is bright."""
    size = _down_to(canvas, bottom)
    stretched = mask.resize(size, Image.Resampling.BILINEAR)
    canvas.picture.paste(colour, (0, 0, *size), stretched)


def glow(canvas: Canvas, centre: Point, radius: float, colour: Colour) -> None:
    """A light that fades towards its rim."""
    side = max(1, round(2 * radius))
    light = [max(0, (_RIM - value) * 255 // _RIM) for value in range(256)]
    mask = Image.radial_gradient("L").point(light).resize((side, side), Image.Resampling.BILINEAR)
    canvas.picture.paste(colour, (round(centre[0] - radius), round(centre[1] - radius)), mask)


def _down_to(canvas: Canvas, bottom: float | None) -> tuple[int, int]:
    width, height = canvas.picture.size
    return (width, height if bottom is None else max(1, round(bottom)))


def _noise(rng: Random, columns: int, rows: int) -> Image.Image:
    cells = Image.frombytes("L", (columns, rows), rng.randbytes(columns * rows))
    return cells.resize(_CLOUDS, Image.Resampling.BICUBIC)

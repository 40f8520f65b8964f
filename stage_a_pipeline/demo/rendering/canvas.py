"""A drawing surface whose colours vary with the scene's seed and whose line widths scale with the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from random import Random
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from stage_a_pipeline.demo.rendering.frame import Box, Frame, Point

Colour = tuple[int, int, int]

UNIT_SIDE: Final = 208
"""Shorter side, in pixels, of a picture in which one unit is one pixel: about what the model sees."""


class Canvas:
    """A picture in the making. Coordinates are pixels; `width` of lines is in units.

    `width` and `height` are those of the view, around which the picture may have a margin.
    """

    def __init__(self, picture: Image.Image, rng: Random, *, view: Frame | None = None) -> None:
        self.picture = picture
        self.rng = rng
        self.view = view or Frame(0, 0, *picture.size)
        self.width, self.height = self.view.width, self.view.height
        self.unit = self.view.side / UNIT_SIDE
        self._draw = ImageDraw.Draw(picture)

    def frame(self, box: Box) -> Frame:
        """The pixels of a box given in fractions of the view."""
        return Frame(*self.view.part(*box))

    def vary(self, colour: Colour, spread: int = 10) -> Colour:
        """The colour, each channel off by at most `spread`."""
        red, green, blue = (max(0, min(255, part + self.rng.randint(-spread, spread))) for part in colour)
        return red, green, blue

    def rectangle(self, box: Box, fill: Colour, *, outline: Colour | None = None, width: float = 2) -> None:
        self._draw.rectangle(_ordered(box), fill, outline, self.stroke(width))

    def rounded(self, box: Box, radius: float, fill: Colour, *, outline: Colour | None = None) -> None:
        """A rectangle with round corners, `radius` in pixels."""
        left, top, right, bottom = map(round, _ordered(box))
        # Pillow refuses corners that leave nothing between them.
        radius = max(0, min(round(radius), (right - left) // 2 - 1, (bottom - top) // 2 - 1))
        self._draw.rounded_rectangle((left, top, right, bottom), radius, fill, outline, self.stroke(1))

    def ellipse(self, box: Box, fill: Colour, *, outline: Colour | None = None, width: float = 2) -> None:
        self._draw.ellipse(_ordered(box), fill, outline, self.stroke(width))

    def disc(
        self, centre: Point, radius: float, fill: Colour, *, outline: Colour | None = None, width: float = 2
    ) -> None:
        x, y = centre
        self.ellipse((x - radius, y - radius, x + radius, y + radius), fill, outline=outline, width=width)

    def polygon(self, points: Sequence[Point], fill: Colour, *, outline: Colour | None = None) -> None:
        self._draw.polygon(points, fill, outline, self.stroke(1))

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """A line `width` pixels (not units) wide, at least one."""
        self._draw.line(points, fill, max(1, round(width)), joint="curve")

    def arc(self, box: Box, start: float, end: float, fill: Colour, width: float) -> None:
        self._draw.arc(_ordered(box), start, end, fill, self.stroke(width))

    def text(self, at: Point, text: str, size: float, fill: Colour, *, bold: bool = True) -> None:
        """Text with its upper left corner at a point, letters about `size` pixels high."""
        stroke = max(1, round(size / 28)) if bold else 0
        self._draw.text(at, text, fill, font(size), stroke_width=stroke, stroke_fill=fill)

    def centred_text(self, centre: Point, text: str, size: float, fill: Colour) -> None:
        """Bold text around its centre."""
        stroke = max(1, round(size / 32))
        self._draw.text(centre, text, fill, font(size), "mm", stroke_width=stroke, stroke_fill=fill)

    def fitting_size(self, text: str, size: float, width: float) -> float:
        """The letter size, at most `size`, at which a text is no wider than `width` pixels."""
        return min(size, size * width / font(size).getlength(text))

    def stroke(self, units: float) -> int:
        """A line width in pixels: at least one, or none for no width."""
        return max(1, round(units * self.unit)) if units else 0


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that pictures are the same on every machine."""
    return _font(max(6, round(size)))


def bezier(controls: Sequence[Point], steps: int = 20) -> list[Point]:
    """Points along the Bézier curve of the control points (de Casteljau)."""
    curve = []
    for step in range(steps + 1):
        share = step / steps
        points = list(controls)
        while len(points) > 1:
            points = [
                ((1 - share) * a + share * c, (1 - share) * b + share * d)
                for (a, b), (c, d) in pairwise(points)
            ]
        curve.append(points[0])
    return curve


def hexagon(centre: Point, radius: float, turn: float) -> list[Point]:
    """The corners of a hexagon, turned by `turn` radians."""
    x, y = centre
    angles = [turn + corner * math.pi / 3 for corner in range(6)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def scale_colour(colour: Colour, factor: float) -> Colour:
    """The colour, brighter or darker."""
    red, green, blue = (max(0, min(255, int(part * factor))) for part in colour)
    return red, green, blue


def _ordered(box: Box) -> Box:
    left, top, right, bottom = box
    return (min(left, right), min(top, bottom), max(left, right), max(top, bottom))

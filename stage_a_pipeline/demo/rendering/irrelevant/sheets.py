"""A sheet of paper on a canvas, straight or lying askew, drawn on in fractions of its sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.frame import Point

_DESKS: Final[tuple[Colour, ...]] = (
    (150, 104, 66),
    (196, 160, 116),
    (70, 50, 40),
    (60, 64, 72),
    (120, 70, 60),
)
_STROKES: Final[tuple[tuple[Point, Point], ...]] = (
    ((0, 0.1), (0.9, 0.1)),
    ((0, 0.5), (0.9, 0.5)),
    ((0.05, 0.95), (0.85, 0.95)),
    ((0.45, 0), (0.45, 1)),
    ((0.05, 0.1), (0.05, 0.95)),
    ((0.85, 0.1), (0.85, 0.95)),
    ((0.45, 0.5), (0, 1)),
    ((0.45, 0.5), (0.9, 1)),
    ((0.1, 0.3), (0.3, 0.45)),
)
"""The strokes, in fractions of a sign's square, of which signs are made up."""
_LETTERS: Final = "eeeettaaooiinnsshhrrddlucmfwygpbvk"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Four corners, clockwise from the upper left one; (0, 0) to (1, 1) on it are fractions."""

    canvas: Canvas
    corners: tuple[Point, Point, Point, Point]
    paper: Colour

    @property
    def width(self) -> float:
        return math.dist(self.corners[0], self.corners[1])

    @property
    def height(self) -> float:
        return math.dist(self.corners[0], self.corners[3])

    def at(self, x: float, y: float) -> Point:
        """The pixel at these fractions of the sheet."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = self.corners
        left_x, left_y = ax + (dx - ax) * y, ay + (dy - ay) * y
        right_x, right_y = bx + (cx - bx) * y, by + (cy - by) * y
        return (left_x + (right_x - left_x) * x, left_y + (right_y - left_y) * x)

    def line(self, points: Sequence[Point], ink: Colour, width: float = 1) -> None:
        """A line through points of the sheet, `width` units wide."""
        self.canvas.line([self.at(x, y) for x, y in points], ink, width * self.canvas.unit)

    def area(self, points: Sequence[Point], fill: Colour) -> None:
        self.canvas.polygon([self.at(x, y) for x, y in points], fill)

    def box(
        self, left: float, top: float, right: float, bottom: float, ink: Colour, width: float = 1
    ) -> None:
        """The outline of a rectangle."""
        self.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], ink, width)

    def filled_box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        self.area([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        ink: Colour,
        *,
        start: float = 0,
        end: float = 360,
        width: float = 1,
    ) -> None:
        """A circle or an arc of `radius` sheet widths, its angles in degrees clockwise from the right."""
        ratio = self.width / self.height
        turns = [math.radians(start + (end - start) * step / 24) for step in range(25)]
        arc = [(x + radius * math.cos(turn), y + radius * ratio * math.sin(turn)) for turn in turns]
        self.line(arc, ink, width)

    def text(self, x: float, y: float, text: str, size: float, ink: Colour, *, bold: bool = False) -> None:
        """Text from its upper left corner, letters `size` sheet widths high."""
        self.canvas.text(self.at(x, y), text, size * self.width, ink, bold=bold)

    def words(self, left: float, y: float, right: float, size: float, ink: Colour) -> None:
        """A line of invented words that follows the sheet's slant."""
        x = left
        while True:
            letters = self.canvas.rng.randint(2, 9)
            if x + letters * size * 0.56 > right:
                return
            self.text(x, y, invented_word(self.canvas, letters), size, ink)
            x += (letters + 0.7) * size * 0.56

    def signs(self, left: float, y: float, right: float, size: float, ink: Colour) -> None:
        """A line of square characters, made up of strokes."""
        tall = size * self.width / self.height
        for place in range(int((right - left) / size / 1.1 + 1e-6)):
            if self.canvas.rng.random() < 0.08:
                continue
            x = left + place * size * 1.1
            for start, end in self.canvas.rng.sample(_STROKES, 3):
                points = [(x + across * size, y + down * tall) for across, down in (start, end)]
                self.line(points, ink)


def lay_sheet(canvas: Canvas, paper: Colour, *, askew_chance: float = 0.45) -> Sheet:
    """Paper over the whole canvas, or lying askew on a desk with its shadow."""
    rng, width, height = canvas.rng, float(canvas.width), float(canvas.height)
    canvas.rectangle((0, 0, width, height), paper, width=0)
    if rng.random() >= askew_chance:
        return Sheet(canvas, ((0, 0), (width, 0), (width, height), (0, height)), paper)
    desk = canvas.vary(rng.choice(_DESKS), 16)
    canvas.rectangle((0, 0, width, height), desk, width=0)
    for _ in range(10):
        y, tilt = rng.uniform(0, 1) * height, rng.uniform(-0.02, 0.02) * height
        grain = scale_colour(desk, rng.uniform(0.85, 1.1))
        canvas.line([(0, y), (width, y + tilt)], grain, rng.uniform(0.6, 4) * canvas.unit)
    slant, pinch = rng.uniform(-0.11, 0.11), rng.uniform(0, 0.08)
    half_x, half_y = width * rng.uniform(0.34, 0.47), height * rng.uniform(0.4, 0.52)
    middle = (width * rng.uniform(0.46, 0.54), height * rng.uniform(0.47, 0.53))
    corners = []
    for x, y in ((-1 + pinch, -1), (1 - pinch, -1), (1, 1), (-1, 1)):
        across, down = x * half_x, y * half_y
        turned = (across - slant * down, down + slant * across)
        corners.append((middle[0] + turned[0], middle[1] + turned[1]))
    drop = 4 * canvas.unit
    canvas.polygon([(x + drop, y + drop) for x, y in corners], scale_colour(desk, 0.55))
    canvas.polygon(corners, paper, outline=scale_colour(paper, 0.85))
    return Sheet(canvas, (corners[0], corners[1], corners[2], corners[3]), paper)


def invented_word(canvas: Canvas, letters: int) -> str:
    """A word that nobody has written."""
    return "".join(canvas.rng.choices(_LETTERS, k=letters))

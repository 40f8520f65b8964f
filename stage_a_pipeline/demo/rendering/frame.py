"""An object's place in the picture, in pixels, and points within it by fractions."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of pixels: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def side(self) -> float:
        """The shorter side."""
        return min(self.width, self.height)

    @property
    def centre(self) -> Point:
        return self.at(0.5, 0.5)

    @property
    def box(self) -> Box:
        return (self.left, self.top, self.right, self.bottom)

    def at(self, x: float, y: float) -> Point:
        """The point at these fractions of the frame's width and height."""
        return (self.left + self.width * x, self.top + self.height * y)

    def part(self, left: float, top: float, right: float, bottom: float) -> Box:
        """The box between two points given in fractions."""
        return (*self.at(left, top), *self.at(right, bottom))

    def square(self, radius: float, x: float = 0.5, y: float = 0.5) -> Box:
        """A square of twice `radius` pixels around a point given in fractions."""
        middle_x, middle_y = self.at(x, y)
        return (middle_x - radius, middle_y - radius, middle_x + radius, middle_y + radius)

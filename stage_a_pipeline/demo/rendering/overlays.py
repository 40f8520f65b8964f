"""What lies on top of installed objects: the round tags of groups, and hands in gloves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.frame import Frame, Point

_TAG_COLOURS: Final[Mapping[str, tuple[Colour, Colour]]] = {
    "1": ((208, 32, 40), (255, 255, 255)),
    "2": ((30, 80, 200), (255, 255, 255)),
    "3": ((250, 210, 30), (20, 20, 20)),
}
"""Tag and digit: crews mark sectors by colour as well as by number."""

_TAG_RADIUS: Final = 0.155
_GLOVES: Final = ((236, 110, 160), (170, 225, 60))
"""Colours that nothing else in the pictures has."""

_GLOVED_SHARE: Final = 0.38


def draw_group_tag(canvas: Canvas, number: str, centre: Point, side: float) -> None:
    """A round tag with the group's number; `side` is the shorter side of what it hangs on, in pixels."""
    ground, ink = _TAG_COLOURS[number]
    radius = max(side * _TAG_RADIUS, 9 * canvas.unit)
    canvas.disc(centre, radius, canvas.vary(ground, 12), outline=(20, 20, 20), width=1)
    canvas.centred_text(centre, number, radius * 1.5, ink)


def draw_glove(canvas: Canvas, frame: Frame) -> None:
    """A gloved hand that reaches in from the left or the right and hides that side of the frame."""
    rng = canvas.rng
    colour = canvas.vary(rng.choice(_GLOVES), 12)
    share = _GLOVED_SHARE + rng.uniform(-0.04, 0.02)
    from_left = rng.random() < 0.5
    finger = frame.height * 0.17
    palm_end = frame.width * share - finger
    for row, reach in enumerate((0.88, 1.0, 0.97, 0.85)):
        y = frame.top + frame.height * (0.11 + 0.26 * row)
        tip = max(palm_end, 0) * reach + finger * reach
        _draw_finger(canvas, frame, (y, finger), tip, colour, from_left=from_left)


def _draw_finger(
    canvas: Canvas, frame: Frame, row: tuple[float, float], tip: float, colour: Colour, *, from_left: bool
) -> None:
    """One finger, `row` its height in the picture and half its thickness, that ends at `tip`."""
    (y, half), edge = row, scale_colour(colour, 0.6)
    half *= 0.72
    start = -frame.width * 0.05
    x0, x1 = (frame.left + start, frame.left + tip) if from_left else (frame.right - tip, frame.right - start)
    canvas.rounded((x0, y - half, x1, y + half), half, colour, outline=edge)

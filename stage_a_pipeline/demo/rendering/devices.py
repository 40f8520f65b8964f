"""How BBU devices look, with their brand, their slot, and the wind deflector in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stage_a_pipeline.demo.device_scenes import EAR_SHARE
from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.frame import Frame, Point
from stage_a_pipeline.demo.scenes import SceneObject

BODY_COLOURS: Final[Mapping[str, Colour]] = {
    "华为": (52, 54, 60),
    "中兴": (196, 200, 204),
    "爱立信": (230, 226, 214),
}

_SIGN_WIDTH: Final = 5.2
"""Width of the widest maker's sign, in its heights."""


def draw_device(canvas: Canvas, item: SceneObject, _visible: Frame) -> None:
    """The device's panel with ears, brand and ports, and the slot below, from its own outline."""
    assert item.panel is not None
    whole = canvas.frame(item.panel.outline)
    ear = EAR_SHARE * canvas.width
    body = canvas.vary(BODY_COLOURS[item.attributes["品牌"]], 12)
    canvas.rectangle(whole.box, body, outline=scale_colour(body, 0.5), width=3)
    for left in (whole.left, whole.right - ear):
        canvas.rectangle((left, whole.top, left + ear, whole.bottom), scale_colour(body, 0.78), width=0)
    left_edge, right_edge = max(whole.left + ear, canvas.view.left), min(whole.right - ear, canvas.view.right)
    x = left_edge + (right_edge - left_edge) * canvas.rng.uniform(0.04, 0.14)
    y = whole.top + whole.height * canvas.rng.uniform(0.08, 0.16)
    brand, width = item.attributes["品牌"], whole.width - 2.5 * ear
    _draw_brand(canvas, brand, (x, y), min(whole.height * 0.34, width / _SIGN_WIDTH))
    ports = canvas.rng.randint(4, 6)
    size = whole.height * 0.24
    for port in range(ports):
        left = whole.left + ear * 1.1 + (whole.width - ear * 2.4) * port / ports
        top = whole.top + whole.height * 0.64
        canvas.rectangle((left, top, left + size, top + size), (18, 18, 20), outline=(130, 130, 130), width=1)
    _draw_slot(canvas, item, canvas.frame(item.panel.slot_box))


def draw_deflector(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    """A slanted plate lit from above, with large arrows: up is the right way, down the wrong one."""
    upright = item.attributes["安装方向"] == "方向正确"
    dark, bright = (70, 96, 104), (196, 222, 230)
    light, bands = canvas.rng.uniform(0.9, 1.08), 6
    for band in range(bands):
        share = band / (bands - 1)
        share = 1 - share if upright else share
        red, green, blue = (low + (high - low) * share for low, high in zip(dark, bright, strict=True))
        colour = scale_colour((int(red), int(green), int(blue)), light)
        canvas.rectangle(frame.part(0, band / bands, 1, (band + 1) / bands), colour, width=0)
    for edge in (((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (0, 1)), ((0, 1), (0, 0))):
        canvas.line([frame.at(*point) for point in edge], (30, 34, 38), 2 * canvas.unit)
    for x in (0.09, 0.28, 0.9):
        _draw_arrow(canvas, frame, x, upright)
    _draw_maker_plate(canvas, item.attributes["品牌"], frame)


def _draw_maker_plate(canvas: Canvas, brand: str, frame: Frame) -> None:
    """The maker's plate, in the colours of its devices, where no hand from the left hides its beginning."""
    plate = Frame(*frame.part(0.42, 0.16, 0.8, 0.84))
    body = canvas.vary(BODY_COLOURS[brand], 12)
    canvas.rectangle(plate.box, body, outline=scale_colour(body, 0.5), width=1)
    size = min(plate.height * 0.5, plate.width * 0.94 / _SIGN_WIDTH)
    _draw_brand(canvas, brand, plate.at(0.05, 0.2), size)


def _draw_brand(canvas: Canvas, brand: str, at: Point, size: float) -> None:
    """The maker's sign, about `size` pixels high, from its upper left corner."""
    x, y = at
    if brand == "华为":
        canvas.ellipse((x, y, x + size * 1.2, y + size * 1.2), canvas.vary((220, 30, 40)), width=0)
        canvas.text((x + size * 1.4, y + size * 0.1), "HUAWEI", size * 0.85, (240, 90, 90))
    elif brand == "中兴":
        canvas.text((x, y - size * 0.1), "ZTE", size * 1.4, canvas.vary((20, 80, 200)))
    else:
        navy = (20, 30, 60)
        for bar in range(3):
            start = (x + size * 0.1, y + size * (1.05 - 0.32 * bar))
            end = (x + size * 1.1, y + size * (0.62 - 0.32 * bar))
            canvas.line([start, end], navy, max(3 * canvas.unit, size * 0.18))
        canvas.text((x + size * 1.4, y + size * 0.15), "ERICSSON", size * 0.7, navy)


def _draw_slot(canvas: Canvas, item: SceneObject, slot: Frame) -> None:
    assert item.panel is not None
    if item.panel.slot == "empty":
        canvas.rectangle(slot.box, canvas.vary((10, 10, 12), 5), width=0)
    elif item.panel.slot == "filled":
        canvas.rectangle(slot.box, canvas.vary((150, 138, 108)), outline=(70, 66, 56))
        for y in (0.35, 0.65):
            canvas.line([slot.at(0.03, y), slot.at(0.97, y)], (96, 88, 70), 2 * canvas.unit)


def _draw_arrow(canvas: Canvas, frame: Frame, x: float, upright: bool) -> None:
    orange = (250, 140, 20)
    tip, base = (0.14, 0.86) if upright else (0.86, 0.14)
    centre, tip_y = frame.at(x, tip)
    middle_y, base_y = frame.at(x, 0.5)[1], frame.at(x, base)[1]
    reach = min(frame.height * 0.34, frame.width * 0.09)
    canvas.polygon([(centre, tip_y), (centre - reach, middle_y), (centre + reach, middle_y)], orange)
    canvas.rectangle((centre - reach * 0.35, middle_y, centre + reach * 0.35, base_y), orange, width=0)

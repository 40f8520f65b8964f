"""How each category of object looks in each of its states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, bezier, hexagon
from stage_a_pipeline.demo.rendering.devices import draw_deflector, draw_device
from stage_a_pipeline.demo.rendering.frame import Frame, Point
from stage_a_pipeline.demo.rendering.overlays import draw_glove, draw_group_tag
from stage_a_pipeline.demo.scenes import GROUP, Scene, SceneObject

COPPER: Final = (214, 128, 60)
BLACK: Final = (6, 6, 8)
WIRE_COLOURS: Final = ((30, 60, 170), (22, 22, 26), (170, 30, 30))


_TAG_PLACES: Final[Mapping[str, Point]] = {"尾纤": (0.8, 0.15), "接地线": (0.15, 0.15), "标签": (0.85, 0.17)}
"""Where the round tag of a group hangs, in fractions of the object's frame."""


def draw_object(canvas: Canvas, item: SceneObject) -> None:
    """Draw one object where its box says, with its group's tag and with what covers it."""
    frame = canvas.frame(item.box)
    _DRAWINGS[item.category](canvas, item, frame)
    if GROUP in item.attributes:
        draw_group_tag(canvas, item.attributes[GROUP], frame.at(*_TAG_PLACES[item.category]), frame.side)
    if item.covered:
        draw_glove(canvas, frame)


def draw_objects(canvas: Canvas, scene: Scene) -> None:
    """Draw all objects of a scene, in their order."""
    for item in scene.objects:
        draw_object(canvas, item)


def _mounting_screw(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    if item.mounted:
        _screw(canvas, frame.centre, frame.side * 0.48, _is_sound(item))
        return
    canvas.rectangle(frame.box, canvas.vary((150, 152, 158)), outline=(60, 60, 64))
    hole = max(3 * canvas.unit, frame.side * 0.07)
    for row in range(4):
        for x in (0.1, 0.9):
            canvas.rectangle(frame.square(hole, x, 0.14 + 0.24 * row), (24, 24, 26), width=0)
    _screw(canvas, frame.centre, frame.side * 0.27, _is_sound(item))


def _fibre_plug(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    at_device = item.category.startswith("BBU")
    canvas.rectangle(
        frame.box, canvas.vary((44, 48, 56) if at_device else (206, 210, 204)), outline=(20, 20, 20)
    )
    if at_device:
        for lamp in range(4):
            box = frame.part(0.12 + 0.22 * lamp, 0.07, 0.2 + 0.22 * lamp, 0.15)
            canvas.rectangle(box, (40, 225, 80), width=0)
    size = frame.side * 0.25
    port = (150, 152, 150) if at_device else canvas.vary((24, 140, 70))
    canvas.rectangle(frame.square(size * 1.25), port, outline=(15, 15, 15))
    if not _is_sound(item):
        canvas.rectangle(frame.square(size * 0.9), BLACK, width=0)
        return
    fibre_width = max(4 * canvas.unit, frame.side * 0.1)
    canvas.line([frame.centre, frame.at(0.5, 0.99)], canvas.vary((240, 205, 30)), fibre_width)
    plug = canvas.vary((40, 90, 220) if at_device else (120, 225, 130))
    canvas.rectangle(frame.square(size * 0.85), plug, outline=(245, 245, 245))


def _cabinet_ground_screw(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    canvas.rectangle(frame.box, canvas.vary((58, 76, 120)), outline=(20, 24, 36))
    for row, reach in enumerate((0.16, 0.11, 0.06)):
        y = 0.12 + 0.07 * row
        points = [frame.at(0.2 - reach, y), frame.at(0.2 + reach, y)]
        canvas.line(points, (240, 240, 240), max(2 * canvas.unit, frame.side * 0.04))
    _ground_wire(canvas, [frame.centre, frame.at(0.88, 0.01)], max(6 * canvas.unit, frame.side * 0.13))
    _screw(canvas, frame.centre, frame.side * 0.26, _is_sound(item))


def _bar_ground_screw(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    _ground_bar(canvas, frame)
    _ground_wire(canvas, [frame.centre, frame.at(0.5, 0.99)], max(6 * canvas.unit, frame.side * 0.13))
    _screw(canvas, frame.centre, frame.side * 0.26, _is_sound(item))


def _bar_ground_bolt(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    _ground_bar(canvas, frame)
    for x in (0.25, 0.75):
        canvas.line(
            [frame.at(x, 0.2), frame.at(x, 0.8)], (90, 50, 20), max(2 * canvas.unit, frame.side * 0.04)
        )
    _bolt(canvas, frame, _is_sound(item))


def _device_ground(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    canvas.rectangle(frame.box, canvas.vary((222, 224, 226)), outline=(70, 70, 70))
    for x in (0.08, 0.16, 0.24):
        canvas.line(
            [frame.at(x, 0.06), frame.at(x, 0.94)], (120, 124, 128), max(2 * canvas.unit, frame.side * 0.035)
        )
    _ground_wire(canvas, [frame.centre, frame.at(0.95, 0.98)], max(6 * canvas.unit, frame.side * 0.13))
    _bolt(canvas, frame, _is_sound(item))


def _fastener(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    corners = [frame.at(0, 0), frame.at(1, 0), frame.at(1, 0.75), frame.at(0.75, 1), frame.at(0, 1)]
    canvas.polygon(corners, canvas.vary((108, 116, 126)), outline=(40, 40, 44))
    _bolt(canvas, frame, _is_sound(item))


def _fibre(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    protected = item.attributes["保护措施"] == "有保护"
    wide_bend = item.attributes["弯曲半径"] == "半径合理"
    path = _wide_arch(frame) if wide_bend else _tight_loop(frame)
    yellow = canvas.vary((244, 208, 24))
    thickness = max(4 * canvas.unit, frame.side * 0.07)
    if not protected:
        canvas.line(path, yellow, thickness)
        return
    canvas.line(path, (18, 18, 20), thickness * 3)
    for (x0, y0), (x1, y1) in pairwise(path):
        canvas.disc(((x0 + x1) / 2, (y0 + y1) / 2), thickness * 0.6, yellow, width=0)


def _wires(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    colour = canvas.vary(canvas.rng.choice(WIRE_COLOURS))
    thickness = max(4 * canvas.unit, frame.side * 0.055)
    if item.attributes["捆扎"] == "整齐":
        for row in range(4):
            y = 0.26 + 0.16 * row
            canvas.line([frame.at(0, y), frame.at(1, y)], canvas.vary(colour, 14), thickness)
        for x in (0.28, 0.72):
            canvas.rectangle(frame.part(x - 0.05, 0.17, x + 0.05, 0.83), (244, 244, 244), width=0)
        return
    for _ in range(6):
        controls = [frame.at(canvas.rng.uniform(-0.1, 1.1), canvas.rng.uniform(-0.1, 1.1)) for _ in range(4)]
        canvas.line(bezier(controls, 12), canvas.vary(colour, 14), thickness)


def _label(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    canvas.rectangle(frame.part(0, 0.18, 1, 0.82), canvas.vary((248, 248, 242), 6), outline=(90, 90, 90))
    if "文本" in item.attributes:
        _fitted_text(canvas, frame, item.attributes["文本"], canvas.vary((14, 14, 16), 8))
        return
    for _ in range(9):
        x, y = canvas.rng.uniform(0, 0.7), canvas.rng.uniform(0.18, 0.62)
        grey = canvas.rng.randint(120, 190)
        smear = frame.part(x, y, x + canvas.rng.uniform(0.18, 0.3), y + 0.2)
        canvas.ellipse(smear, (grey, grey - 8, grey - 22), width=0)


def _distance_sign(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    canvas.rectangle(
        frame.part(0, 0.12, 1, 0.88), canvas.vary((16, 108, 72), 8), outline=(235, 240, 235), width=3
    )
    _fitted_text(canvas, frame, item.attributes["站点距离"], (250, 250, 250), size=0.56)


def _remote_unit(canvas: Canvas, _item: SceneObject, frame: Frame) -> None:
    canvas.rectangle(frame.part(0.1, 0, 0.9, 0.9), canvas.vary((222, 224, 226)), outline=(70, 70, 70))
    for fin in range(6):
        x = 0.18 + 0.128 * fin
        canvas.line(
            [frame.at(x, 0.08), frame.at(x, 0.72)], (120, 124, 128), max(3 * canvas.unit, frame.width * 0.04)
        )
    for x in (0.25, 0.5, 0.75):
        canvas.rectangle(frame.part(x - 0.05, 0.88, x + 0.05, 1), (30, 30, 32), width=0)


def _pigtail(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    path = bezier([frame.at(0.22, 0.01), frame.at(0.02, 0.5), frame.at(0.6, 0.5), frame.at(0.32, 0.99)], 16)
    if item.attributes["套管保护"] == "有套管":
        canvas.line(path, canvas.vary((236, 120, 30)), max(12 * canvas.unit, frame.side * 0.22))
        ring = frame.side * 0.1
        for x, y in path[1::2]:
            canvas.line(
                [(x - ring, y), (x + ring, y)], (120, 50, 10), max(2 * canvas.unit, frame.side * 0.03)
            )
    else:
        canvas.line(path, (16, 16, 18), max(4 * canvas.unit, frame.side * 0.07))
    if item.attributes["标签"] == "有标签":
        _tag(canvas, frame, top=0.3)


def _ground_lead(canvas: Canvas, item: SceneObject, frame: Frame) -> None:
    controls = [frame.at(0.05, 0.97), frame.at(0.25, 0), frame.at(0.7, 0.8), frame.at(0.95, 0.03)]
    _ground_wire(canvas, bezier(controls, 16), max(9 * canvas.unit, frame.side * 0.17))
    if item.attributes["标签"] == "有标签":
        _tag(canvas, frame, top=0.6)


def _is_sound(item: SceneObject) -> bool:
    return item.attributes.get("符合性") == "符合" or item.attributes.get("安装状态") == "合格"


def _screw(canvas: Canvas, centre: Point, radius: float, sound: bool) -> None:
    """A bright screw with a cross, or a rusty hole where it is missing."""
    if not sound:
        canvas.disc(centre, radius, canvas.vary((140, 58, 22)), outline=(10, 10, 10))
        canvas.disc(centre, radius * 0.58, BLACK, width=0)
        return
    canvas.disc(centre, radius, canvas.vary((228, 230, 234), 8), outline=(70, 70, 75))
    (x, y), reach, thickness = centre, radius * 0.6, max(3 * canvas.unit, radius * 0.24)
    canvas.line([(x - reach, y), (x + reach, y)], (50, 50, 55), thickness)
    canvas.line([(x, y - reach), (x, y + reach)], (50, 50, 55), thickness)


def _bolt(canvas: Canvas, frame: Frame, sound: bool) -> None:
    """A bright hexagon on its washer, or a rusty one that stands off a dark hole."""
    turn = canvas.rng.uniform(0, 1)
    (x, y), radius = frame.centre, frame.side * 0.25
    if sound:
        canvas.disc((x, y), frame.side * 0.36, (176, 182, 190), outline=(50, 50, 50))
        canvas.polygon(hexagon((x, y), radius, turn), canvas.vary((238, 240, 244), 8), outline=(60, 60, 60))
        return
    canvas.disc((x, y), frame.side * 0.36, (12, 12, 14), width=0)
    off = frame.side * 0.05
    canvas.polygon(hexagon((x + off, y - off), radius, turn), canvas.vary((176, 76, 26)), outline=(30, 10, 5))


def _ground_bar(canvas: Canvas, frame: Frame) -> None:
    canvas.rectangle(frame.part(0, 0.2, 1, 0.8), canvas.vary(COPPER), outline=(90, 50, 20))
    for x in (0.1, 0.9):
        canvas.disc(frame.at(x, 0.5), frame.side * 0.06, (30, 20, 14), width=0)


def _ground_wire(canvas: Canvas, path: list[Point], thickness: float) -> None:
    canvas.line(path, (60, 150, 50), thickness)
    canvas.line(path, (235, 220, 40), max(2 * canvas.unit, thickness / 3))


def _tag(canvas: Canvas, frame: Frame, *, top: float) -> None:
    canvas.rectangle(
        frame.part(0.52, top, 0.98, top + 0.36),
        canvas.vary((248, 248, 244), 6),
        outline=(60, 60, 60),
        width=1,
    )
    thickness = max(2 * canvas.unit, frame.height * 0.05)
    for y in (top + 0.11, top + 0.23):
        canvas.line([frame.at(0.57, y), frame.at(0.92, y)], (30, 30, 30), thickness)


def _fitted_text(canvas: Canvas, frame: Frame, text: str, colour: Colour, *, size: float = 0.46) -> None:
    letters = canvas.fitting_size(text, frame.side * size, frame.width * 0.86)
    x, y = frame.at(0.5 + canvas.rng.uniform(-0.03, 0.03), 0.5)
    canvas.centred_text((x, y), text, letters, colour)


def _wide_arch(frame: Frame) -> list[Point]:
    return bezier(
        [frame.at(0.1, 0.98), frame.at(0.05, -0.35), frame.at(0.95, -0.35), frame.at(0.9, 0.98)], 22
    )


def _tight_loop(frame: Frame) -> list[Point]:
    radius, (x, _) = frame.side * 0.2, frame.centre
    ground = frame.bottom - frame.side * 0.14
    angles = [step * math.pi / 8 for step in range(17)]
    loop = [(x + radius * math.sin(angle), ground - radius + radius * math.cos(angle)) for angle in angles]
    low = frame.bottom - frame.side * 0.1
    return [(frame.at(0.06, 0)[0], low), *loop, (frame.at(0.94, 0)[0], low)]


_DRAWINGS: Final[Mapping[str, Callable[[Canvas, SceneObject, Frame], None]]] = MappingProxyType(
    {
        "BBU设备": draw_device,
        "挡风板": draw_deflector,
        "BBU安装螺丝": _mounting_screw,
        "BBU端光纤插头": _fibre_plug,
        "ODF端光纤插头": _fibre_plug,
        "机柜处接地螺丝": _cabinet_ground_screw,
        "地排处接地螺丝": _bar_ground_screw,
        "光纤": _fibre,
        "电线": _wires,
        "标签": _label,
        "RRU设备": _remote_unit,
        "站点距离": _distance_sign,
        "紧固件": _fastener,
        "RRU接地端": _device_ground,
        "地排接地端螺丝": _bar_ground_bolt,
        "尾纤": _pigtail,
        "接地线": _ground_lead,
    }
)

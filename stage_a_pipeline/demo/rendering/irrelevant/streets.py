"""Streets with houses, trees and cars."""

from __future__ import annotations

import math
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.frame import Point
from stage_a_pipeline.demo.rendering.irrelevant.skies import SKIES, draw_clouds
from stage_a_pipeline.demo.rendering.irrelevant.textures import fill_gradient

_FACADES: Final[tuple[Colour, ...]] = (
    (196, 150, 116),
    (180, 96, 78),
    (226, 206, 168),
    (206, 176, 128),
    (150, 160, 176),
    (224, 222, 214),
    (168, 120, 96),
)
_CARS: Final[tuple[Colour, ...]] = (
    (190, 30, 34),
    (240, 240, 240),
    (30, 60, 140),
    (40, 42, 46),
    (230, 180, 40),
    (176, 180, 186),
)
_ASPHALT: Final = (92, 92, 96)
_GLASS: Final = (90, 120, 150)


def draw_street(canvas: Canvas) -> None:
    """A street, seen along it or from across it."""
    rng = canvas.rng
    horizon = canvas.height * rng.uniform(0.36, 0.56)
    shades = rng.choice(SKIES[:-1])
    fill_gradient(canvas, [canvas.vary(shade) for shade in shades], bottom=horizon + 1)
    if rng.random() < 0.6:
        draw_clouds(canvas, shades, bottom=horizon + 1)
    if rng.random() < 0.5:
        _draw_street_along(canvas, horizon)
    else:
        _draw_street_across(canvas, horizon)


def _draw_street_along(canvas: Canvas, horizon: float) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
    vanishing = (width * rng.uniform(0.35, 0.65), horizon)
    ground = rng.choice(((96, 140, 70), (178, 170, 158), (120, 150, 90)))
    canvas.rectangle((0, horizon, width, height), canvas.vary(ground), width=0)
    road_left, road_right = rng.uniform(-0.25, 0.1) * width, rng.uniform(0.9, 1.25) * width
    for edge in (-0.2 * width, 1.2 * width):
        _draw_facades_along(canvas, edge, vanishing, height)
    road = [vanishing, (road_right, height), (road_left, height)]
    canvas.polygon(road, canvas.vary(scale_colour(_ASPHALT, rng.uniform(0.7, 1.25)), 5))
    for edge in (road_left, road_right):
        canvas.line([(edge, height), vanishing], (226, 226, 220), 2 * canvas.unit)
    _draw_lane_marks(canvas, vanishing, ((road_left + road_right) / 2, height))
    trees = sorted((rng.uniform(0.3, 0.85), rng.choice((-0.1, 1.1))) for _ in range(rng.randint(0, 5)))
    for share, side in reversed(trees):
        foot = _towards((side * width, height), vanishing, share)
        _draw_tree(canvas, foot, (1 - share) * height * 0.6)
    for share in sorted((rng.uniform(0.35, 0.85) for _ in range(rng.randint(0, 3))), reverse=True):
        lane = road_left + (road_right - road_left) * rng.choice((0.27, 0.73))
        _draw_car_behind(canvas, _towards((lane, height), vanishing, share), (1 - share) * width * 0.28)


def _draw_lane_marks(canvas: Canvas, vanishing: Point, near: Point) -> None:
    for dash in range(9):
        start, end = 1 - 0.72**dash, 1 - 0.72 ** (dash + 0.5)
        centre, far = _towards(near, vanishing, start), _towards(near, vanishing, end)
        half, far_half = (canvas.width * 0.02 * (1 - share) for share in (start, end))
        corners = [(centre[0] - half, centre[1]), (centre[0] + half, centre[1])]
        corners += [(far[0] + far_half, far[1]), (far[0] - far_half, far[1])]
        canvas.polygon(corners, (236, 234, 224))


def _draw_facades_along(canvas: Canvas, edge: float, vanishing: Point, height: float) -> None:
    rng = canvas.rng
    near, count = 0.0, rng.randint(2, 4)
    for house in range(count):
        far = near + (0.86 - near) * rng.uniform(0.3, 0.6) if house < count - 1 else 0.86
        top, base = (edge, -height * rng.uniform(0.1, 1.1)), (edge, height * 1.02)
        wall = canvas.vary(rng.choice(_FACADES), 16)
        quad = [_towards(top, vanishing, near), _towards(top, vanishing, far)]
        quad += [_towards(base, vanishing, far), _towards(base, vanishing, near)]
        canvas.polygon(quad, wall, outline=scale_colour(wall, 0.6))
        floors, columns = rng.randint(3, 6), rng.randint(2, 5)
        pane = canvas.vary(scale_colour(_GLASS, rng.uniform(0.6, 1.2)))
        for floor in range(floors):
            high, low = (floor + 0.25) / floors * 0.85, (floor + 0.75) / floors * 0.85
            for column in range(columns):
                start, end = (near + (far - near) * (column + inset) / columns for inset in (0.25, 0.75))
                upper, lower = _towards(top, base, high), _towards(top, base, low)
                window = [_towards(upper, vanishing, start), _towards(upper, vanishing, end)]
                window += [_towards(lower, vanishing, end), _towards(lower, vanishing, start)]
                canvas.polygon(window, pane)
        near = far


def _draw_street_across(canvas: Canvas, horizon: float) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
    kerb = horizon + height * rng.uniform(0.1, 0.2)
    canvas.rectangle(
        (0, horizon, width, height), canvas.vary(scale_colour(_ASPHALT, rng.uniform(0.7, 1.25)), 5), width=0
    )
    x = -rng.uniform(0, 0.15)
    while x < 1:
        wide = rng.uniform(0.18, 0.42)
        _draw_house(canvas, (x * width, (x + wide) * width), kerb - height * 0.03)
        x += wide + rng.choice((0.0, 0.0, 0.05))
    canvas.rectangle((0, kerb - height * 0.04, width, kerb + height * 0.03), canvas.vary((186, 182, 174)))
    lane = (kerb + height) / 2 + height * 0.05
    for dash in range(7):
        left = (dash - 0.4 + 0.1 * (dash % 2)) * width / 6
        mark = (left, lane - height * 0.012, left + width * 0.09, lane + height * 0.012)
        canvas.rectangle(mark, (236, 234, 224), width=0)
    for _ in range(rng.randint(0, 3)):
        _draw_tree(canvas, (rng.uniform(0, 1) * width, kerb), height * rng.uniform(0.25, 0.45))
    for _ in range(rng.randint(0, 2)):
        _draw_lamp(canvas, (rng.uniform(0.05, 0.95) * width, kerb), height * 0.4)
    for _ in range(rng.randint(0, 3)):
        at = (rng.uniform(-0.05, 0.75) * width, kerb + height * rng.uniform(0.06, 0.3))
        _draw_car_beside(canvas, at, width * rng.uniform(0.22, 0.34))


def _draw_house(canvas: Canvas, sides: tuple[float, float], base: float) -> None:
    rng, (left, right) = canvas.rng, sides
    wall, wide = canvas.vary(rng.choice(_FACADES), 18), right - left
    tall = canvas.height * rng.uniform(0.22, 0.6)
    top = base - tall
    if rng.random() < 0.5:
        roof = canvas.vary(rng.choice(((150, 60, 44), (90, 84, 84), (120, 80, 60))))
        peak = [
            (left - wide * 0.04, top),
            ((left + right) / 2, top - tall * 0.35),
            (right + wide * 0.04, top),
        ]
        canvas.polygon(peak, roof, outline=scale_colour(roof, 0.6))
    canvas.rectangle((left, top, right, base), wall, outline=scale_colour(wall, 0.6), width=1)
    floors, columns = rng.randint(2, 4), rng.randint(2, 4)
    pane, frame = canvas.vary(_GLASS, 30), canvas.vary((236, 234, 228), 8)
    door = rng.randrange(columns)
    for floor in range(floors):
        for column in range(columns):
            x, y = left + wide * (column + 0.25) / columns, top + tall * (floor + 0.22) / floors
            if floor == floors - 1 and column == door:
                canvas.rectangle(
                    (x, y, x + wide * 0.5 / columns, base), canvas.vary((110, 70, 46), 20), width=0
                )
                continue
            box = (x, y, x + wide * 0.5 / columns, y + tall * 0.5 / floors)
            canvas.rectangle(box, pane, outline=frame, width=1.5)


def _draw_tree(canvas: Canvas, foot: Point, tall: float) -> None:
    rng, (x, y) = canvas.rng, foot
    canvas.rectangle(
        (x - tall * 0.04, y - tall * 0.5, x + tall * 0.04, y), canvas.vary((96, 68, 46)), width=0
    )
    leaves = canvas.vary((62, 118, 52), 20)
    for _ in range(9):
        angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.22) * tall
        centre = (x + math.cos(angle) * reach, y - tall * 0.7 + math.sin(angle) * reach)
        shade = scale_colour(leaves, rng.uniform(0.75, 1.2))
        canvas.disc(centre, tall * rng.uniform(0.1, 0.2), shade, width=0)


def _draw_lamp(canvas: Canvas, foot: Point, tall: float) -> None:
    x, y = foot
    points = [(x, y), (x, y - tall), (x + tall * 0.16, y - tall * 1.03)]
    canvas.line(points, (60, 64, 68), 2 * canvas.unit)
    canvas.disc(points[-1], tall * 0.035, (250, 240, 200), width=0)


def _draw_car_beside(canvas: Canvas, at: Point, wide: float) -> None:
    rng, (x, y) = canvas.rng, at
    paint, tall = canvas.vary(rng.choice(_CARS)), wide * 0.2
    cabin = [(x + wide * 0.2, y), (x + wide * 0.32, y - tall * 0.8), (x + wide * 0.68, y - tall * 0.8)]
    canvas.polygon([*cabin, (x + wide * 0.82, y)], paint)
    for start, slant, end in ((0.25, 0.34, 0.48), (0.52, 0.52, 0.75)):
        pane = [(x + wide * start, y), (x + wide * slant, y - tall * 0.65)]
        pane += [(x + wide * (0.48 if end < 0.5 else 0.66), y - tall * 0.65), (x + wide * end, y)]
        canvas.polygon(pane, (60, 78, 96))
    canvas.rectangle((x + wide * 0.03, y, x + wide * 0.97, y + tall), paint, width=0)
    for lamp, light in ((0.03, (200, 40, 30)), (0.92, (250, 240, 200))):
        left = x + wide * lamp
        canvas.rectangle((left, y + tall * 0.2, left + wide * 0.05, y + tall * 0.5), light, width=0)
    for wheel in (0.22, 0.78):
        hub = (x + wide * wheel, y + tall)
        canvas.disc(hub, wide * 0.085, (24, 24, 26), width=0)
        canvas.disc(hub, wide * 0.045, (170, 172, 176), width=0)


def _draw_car_behind(canvas: Canvas, foot: Point, wide: float) -> None:
    rng, (x, y) = canvas.rng, foot
    paint, half = canvas.vary(rng.choice(_CARS)), wide / 2
    for side in (-0.85, 0.55):
        tyre = (x + half * side, y - wide * 0.12, x + half * (side + 0.3), y + wide * 0.03)
        canvas.rectangle(tyre, (20, 20, 22), width=0)
    cabin = [(x - half * 0.85, y - wide * 0.4), (x - half * 0.6, y - wide * 0.72)]
    cabin += [(x + half * 0.6, y - wide * 0.72), (x + half * 0.85, y - wide * 0.4)]
    canvas.polygon(cabin, paint)
    pane = [(x - half * 0.7, y - wide * 0.42), (x - half * 0.52, y - wide * 0.67)]
    canvas.polygon(
        [*pane, (x + half * 0.52, y - wide * 0.67), (x + half * 0.7, y - wide * 0.42)], (56, 72, 90)
    )
    canvas.rectangle((x - half, y - wide * 0.42, x + half, y - wide * 0.06), paint, width=0)
    for side in (-0.95, 0.7):
        lamp = (x + half * side, y - wide * 0.36, x + half * (side + 0.25), y - wide * 0.26)
        canvas.rectangle(lamp, (214, 30, 26), width=0)
    plate = (x - half * 0.3, y - wide * 0.26, x + half * 0.3, y - wide * 0.16)
    canvas.rectangle(plate, (40, 90, 200), width=0)


def _towards(start: Point, end: Point, share: float) -> Point:
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)

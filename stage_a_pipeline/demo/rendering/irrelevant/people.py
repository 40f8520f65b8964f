"""Portraits: one person or two, head and shoulders."""

from __future__ import annotations

from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, bezier, scale_colour
from stage_a_pipeline.demo.rendering.frame import Frame
from stage_a_pipeline.demo.rendering.irrelevant.textures import cloud_mask, fill_gradient, lay, threshold

_SKIN: Final[tuple[Colour, ...]] = (
    (244, 208, 180),
    (230, 184, 150),
    (206, 156, 118),
    (160, 110, 78),
    (104, 70, 50),
)
_HAIR: Final[tuple[Colour, ...]] = (
    (24, 20, 20),
    (60, 40, 28),
    (130, 84, 44),
    (200, 164, 96),
    (150, 148, 146),
)
_CLOTHES: Final[tuple[Colour, ...]] = (
    (40, 60, 120),
    (170, 40, 46),
    (236, 236, 232),
    (40, 110, 80),
    (240, 140, 40),
    (52, 52, 58),
    (120, 80, 150),
)
_BACKGROUNDS: Final[tuple[tuple[Colour, Colour], ...]] = (
    ((66, 130, 214), (66, 130, 214)),
    ((200, 40, 44), (190, 30, 36)),
    ((244, 244, 242), (226, 226, 224)),
    ((206, 186, 160), (168, 140, 110)),
    ((120, 170, 220), (110, 150, 90)),
    ((60, 80, 60), (120, 150, 80)),
    ((80, 60, 60), (160, 110, 80)),
)


def draw_portrait(canvas: Canvas) -> None:
    """One person or two before a studio wall, a room or greenery out of focus."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    top, bottom = rng.choice(_BACKGROUNDS)
    fill_gradient(canvas, [canvas.vary(top, 14), canvas.vary(bottom, 14)])
    if rng.random() < 0.5:
        mask = threshold(cloud_mask(rng, rng.randint(3, 6), rng.randint(3, 5)), 90, 160)
        lay(canvas, canvas.vary(scale_colour(bottom, rng.choice((0.7, 1.35))), 20), mask)
    two = rng.random() < 0.3
    for person in range(2 if two else 1):
        size = min(width * (0.26 if two else 0.42), height * 0.46) * rng.uniform(0.8, 1.05)
        middle = (0.29 + 0.42 * person if two else 0.5) + rng.uniform(-0.06, 0.06)
        top_y = height * rng.uniform(0.14, 0.3)
        x = width * middle
        _draw_person(canvas, Frame(x - size / 2, top_y, x + size / 2, top_y + size * 1.28))


def _draw_person(canvas: Canvas, head: Frame) -> None:
    rng = canvas.rng
    skin, hair = canvas.vary(rng.choice(_SKIN), 12), canvas.vary(rng.choice(_HAIR), 8)
    style = rng.choice(("short", "long", "bun", "bald", "helmet", "fringe"))
    if style == "long":
        canvas.ellipse(head.part(-0.16, -0.12, 1.16, 1.1), hair, width=0)
        canvas.rectangle(head.part(-0.16, 0.5, 1.16, 1.25), hair, width=0)
    if style == "bun":
        canvas.disc(head.at(0.5, -0.14), head.width * 0.22, hair, width=0)
    _draw_shoulders(canvas, head, skin)
    for ear in (0.0, 1.0):
        canvas.disc(head.at(ear, 0.52), head.width * 0.08, scale_colour(skin, 0.9), width=0)
    if style not in ("bald", "helmet"):
        canvas.ellipse(head.part(-0.06, -0.1, 1.06, 0.8), hair, width=0)
    canvas.ellipse(head.part(0, 0, 1, 1), skin, width=0)
    _draw_hair(canvas, head, style, hair)
    _draw_face(canvas, head, skin, hair)


def _draw_shoulders(canvas: Canvas, head: Frame, skin: Colour) -> None:
    rng = canvas.rng
    shirt, bottom = canvas.vary(rng.choice(_CLOTHES), 16), (canvas.height - head.top) / head.height + 0.05
    neck = head.part(0.3, 0.8, 0.7, 1.25)
    curve = [head.at(-0.75, bottom), head.at(-0.7, 1.12), head.at(-0.2, 1.18), head.at(0.28, 1.06)]
    mirrored = [head.at(1.75, bottom), head.at(1.7, 1.12), head.at(1.2, 1.18), head.at(0.72, 1.06)]
    canvas.polygon([*bezier(curve), *reversed(bezier(mirrored))], shirt)
    canvas.rectangle(neck, scale_colour(skin, 0.86), width=0)
    collar = rng.choice(("round", "open", "suit"))
    if collar == "round":
        canvas.ellipse(head.part(0.28, 1.1, 0.72, 1.32), scale_colour(skin, 0.86), width=0)
        return
    canvas.polygon([head.at(0.28, 1.06), head.at(0.72, 1.06), head.at(0.5, 1.5)], scale_colour(skin, 0.9))
    if collar == "suit":
        canvas.polygon([head.at(0.2, 1.05), head.at(0.8, 1.05), head.at(0.5, 1.8)], (240, 240, 240))
        tie = [
            head.at(0.45, 1.2),
            head.at(0.55, 1.2),
            head.at(0.6, 1.9),
            head.at(0.5, 2.0),
            head.at(0.4, 1.9),
        ]
        canvas.polygon(tie, canvas.vary((150, 30, 40), 40))
        canvas.rectangle(head.part(0.3, 0.8, 0.7, 1.14), scale_colour(skin, 0.86), width=0)


def _draw_hair(canvas: Canvas, head: Frame, style: str, hair: Colour) -> None:
    if style == "helmet":
        shell = canvas.vary(
            canvas.rng.choice(((246, 200, 40), (230, 60, 40), (240, 240, 240), (40, 90, 180)))
        )
        points = bezier([head.at(-0.1, 0.24), head.at(0, -0.4), head.at(1, -0.4), head.at(1.1, 0.24)])
        canvas.polygon(points, shell, outline=scale_colour(shell, 0.7))
        canvas.rectangle(head.part(-0.16, 0.2, 1.16, 0.27), scale_colour(shell, 0.85), width=0)
        return
    if style == "bald":
        return
    edge = 0.34 if style == "fringe" else canvas.rng.uniform(0.16, 0.26)
    dip = edge if style == "fringe" else edge * canvas.rng.uniform(-0.4, 0.6)
    crown = bezier([head.at(-0.04, 0.42), head.at(0, -0.28), head.at(1, -0.28), head.at(1.04, 0.42)])
    brow = bezier([head.at(0.96, 0.42), head.at(0.8, dip), head.at(0.3, edge), head.at(0.04, 0.42)])
    canvas.polygon([*crown, *brow], hair)


def _draw_face(canvas: Canvas, head: Frame, skin: Colour, hair: Colour) -> None:
    rng, unit = canvas.rng, head.width / 60
    iris, glasses, beard = canvas.vary((70, 50, 36), 24), rng.random() < 0.25, rng.random() < 0.2
    if beard:
        chin = [head.at(0.04, 0.58), head.at(0.12, 1.14), head.at(0.88, 1.14), head.at(0.96, 0.58)]
        jaw = [head.at(0.8, 0.72), head.at(0.6, 0.64), head.at(0.4, 0.64), head.at(0.2, 0.72)]
        canvas.polygon([*bezier(chin), *bezier(jaw)], hair)
    for eye in (0.3, 0.7):
        canvas.ellipse(head.part(eye - 0.09, 0.43, eye + 0.09, 0.51), (246, 246, 244), width=0)
        canvas.disc(head.at(eye, 0.47), head.width * 0.045, iris, width=0)
        lid = [head.at(eye - 0.11, 0.37), head.at(eye, 0.345), head.at(eye + 0.11, 0.37)]
        canvas.line(lid, scale_colour(hair, 0.8), 2 * unit)
        if glasses:
            rim = [head.at(eye - 0.15, 0.41), head.at(eye + 0.15, 0.41), head.at(eye + 0.13, 0.55)]
            canvas.line([*rim, head.at(eye - 0.13, 0.55), rim[0]], (30, 30, 34), 1.4 * unit)
    if glasses:
        canvas.line([head.at(0.45, 0.43), head.at(0.55, 0.43)], (30, 30, 34), 1.4 * unit)
    shadow = scale_colour(skin, 0.78)
    canvas.line([head.at(0.5, 0.5), head.at(0.46, 0.64), head.at(0.53, 0.645)], shadow, 1.5 * unit)
    smile = rng.uniform(-0.01, 0.08)
    lips = bezier([head.at(0.34, 0.76), head.at(0.5, 0.77 + 2 * smile), head.at(0.66, 0.76)], 8)
    canvas.line(lips, canvas.vary((176, 70, 70), 14), 2.6 * unit)

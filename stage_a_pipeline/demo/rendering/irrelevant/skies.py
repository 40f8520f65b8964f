"""Skies from noon to night."""

from __future__ import annotations

from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.irrelevant.textures import (
    cloud_mask,
    fill_gradient,
    glow,
    lay,
    threshold,
)

SKIES: Final[tuple[tuple[Colour, ...], ...]] = (
    ((46, 110, 200), (120, 175, 235), (200, 225, 245)),
    ((90, 150, 225), (170, 205, 240), (225, 235, 245)),
    ((30, 34, 80), (120, 80, 120), (240, 150, 80), (250, 205, 120)),
    ((60, 70, 130), (200, 130, 150), (250, 190, 150)),
    ((130, 138, 150), (170, 175, 182), (205, 208, 212)),
    ((70, 80, 95), (110, 120, 132), (160, 165, 172)),
    ((10, 14, 34), (18, 26, 58), (40, 54, 96)),
)
"""Shades of a sky from its top down; the last one is the night's."""
_NIGHT: Final = SKIES[-1]


def draw_sky(canvas: Canvas) -> None:
    """A sky from noon to night, with clouds, a sun or a moon, and what stands or flies before it."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    shades = rng.choice(SKIES)
    fill_gradient(canvas, [canvas.vary(shade, 14) for shade in shades])
    if shades is _NIGHT:
        for _ in range(70):
            star = (rng.uniform(0, width), rng.uniform(0, height))
            canvas.disc(star, rng.uniform(0.3, 0.9) * canvas.unit, (230, 232, 245), width=0)
    if rng.random() < 0.6:
        _draw_sun(canvas, night=shades is _NIGHT)
    if rng.random() < 0.8:
        draw_clouds(canvas, shades)
    for chance, draw in ((0.3, _draw_birds), (0.3, _draw_power_lines), (0.2, _draw_trail)):
        if rng.random() < chance:
            draw(canvas)
    if rng.random() < 0.5:
        _draw_skyline(canvas)


def draw_clouds(canvas: Canvas, shades: tuple[Colour, ...], *, bottom: float | None = None) -> None:
    """Clouds over the canvas, down to `bottom`, lit like the lower sky of these shades."""
    rng = canvas.rng
    mask = threshold(cloud_mask(rng, rng.randint(3, 6), rng.randint(4, 8)), rng.randint(90, 140), 110)
    lay(canvas, canvas.vary(scale_colour(shades[-1], 1.12), 12), mask, bottom=bottom)


def _draw_sun(canvas: Canvas, *, night: bool) -> None:
    rng = canvas.rng
    centre = (canvas.width * rng.uniform(0.1, 0.9), canvas.height * rng.uniform(0.1, 0.7))
    radius = rng.uniform(6, 16) * canvas.unit
    colour = (226, 228, 222) if night else canvas.vary((255, 236, 180), 16)
    glow(canvas, centre, radius * (2.5 if night else 6), colour)
    canvas.disc(centre, radius, colour, width=0)


def _draw_birds(canvas: Canvas) -> None:
    rng, unit = canvas.rng, canvas.unit
    for _ in range(rng.randint(3, 10)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0.05, 0.6) * canvas.height
        wing = rng.uniform(3, 8) * unit
        points = [(x - wing, y - wing * 0.4), (x - wing * 0.4, y - wing * 0.5), (x, y)]
        points += [(x + wing * 0.4, y - wing * 0.5), (x + wing, y - wing * 0.4)]
        canvas.line(points, (30, 32, 40), unit)


def _draw_trail(canvas: Canvas) -> None:
    rng = canvas.rng
    start = (rng.uniform(0, 0.3) * canvas.width, rng.uniform(0.1, 0.6) * canvas.height)
    end = (rng.uniform(0.6, 0.9) * canvas.width, rng.uniform(0.05, 0.4) * canvas.height)
    canvas.line([start, end], (245, 246, 250), 2.4 * canvas.unit)
    canvas.disc(end, 2 * canvas.unit, (210, 212, 220), width=0)


def _draw_power_lines(canvas: Canvas) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
    start, end = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6)
    for wire in range(rng.randint(2, 5)):
        points = []
        for step in range(17):
            share = step / 16
            sag = 0.12 * share * (1 - share) * 4
            drop = start + (end - start) * share + sag + 0.05 * wire
            points.append((share * width, drop * height))
        canvas.line(points, (36, 38, 44), 0.9 * canvas.unit)


def _draw_skyline(canvas: Canvas) -> None:
    """Dark roofs or tree tops along the lower edge."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    dark = canvas.vary((32, 36, 40), 14)
    x = 0.0
    if rng.random() < 0.5:
        while x < 1:
            wide, tall = rng.uniform(0.05, 0.16), rng.uniform(0.05, 0.25)
            canvas.rectangle((x * width, (1 - tall) * height, (x + wide) * width, height), dark, width=0)
            x += wide * rng.uniform(0.9, 1.2)
        return
    leaves = canvas.vary((34, 56, 34), 12)
    while x < 1.05:
        radius = rng.uniform(0.03, 0.1)
        canvas.disc((x * width, height * rng.uniform(0.92, 1.0)), radius * height * 1.4, leaves, width=0)
        x += radius * 0.7

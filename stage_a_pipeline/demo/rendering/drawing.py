"""From a scene to its photo: wall and objects, seen from a viewpoint, exposed, with a watermark burnt in."""

from __future__ import annotations

import math
from random import Random
from typing import Final

from PIL import Image

from stage_a_pipeline.demo.rendering.canvas import Canvas, scale_colour
from stage_a_pipeline.demo.rendering.exposure import expose
from stage_a_pipeline.demo.rendering.frame import Frame
from stage_a_pipeline.demo.rendering.installations import draw_objects
from stage_a_pipeline.demo.rendering.irrelevant.pictures import draw_irrelevant
from stage_a_pipeline.demo.rendering.viewpoint import MARGIN, Viewpoint
from stage_a_pipeline.demo.scenes import Scene

_WALLS: Final = {
    "bbu": ((120, 124, 128), (88, 94, 100), (152, 148, 142), (72, 76, 84)),
    "rru": ((128, 152, 178), (150, 150, 140), (104, 118, 104)),
}
WATERMARK_CHANCE: Final = 0.85

MOST_DRAWN_PIXELS: Final = 1_000_000
"""Larger photos are drawn at this size and scaled up: a phone's twelve megapixels hold no more detail."""


def draw_scene(scene: Scene, size: tuple[int, int]) -> Image.Image:
    """The scene as an RGB photo of `size` (width, height); the same scene and size, the same pixels."""
    rng, drawn = Random(scene.seed), _drawn_size(size)
    photo = _draw_irrelevant(scene, drawn, rng) if scene.irrelevant else _draw_installation(scene, drawn, rng)
    photo = expose(photo, Random(f"{scene.seed}/exposure"), scene.remarks)
    if drawn != size:
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    if rng.random() < WATERMARK_CHANCE:
        _burn_in_watermark(Canvas(photo, rng))
    return photo


def _drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    scale = min(1.0, math.sqrt(MOST_DRAWN_PIXELS / (width * height)))
    return round(width * scale), round(height * scale)


def _draw_irrelevant(scene: Scene, size: tuple[int, int], rng: Random) -> Image.Image:
    assert scene.irrelevant is not None
    canvas = Canvas(Image.new("RGB", size), rng)
    draw_irrelevant(canvas, scene.irrelevant)
    return canvas.picture


def _draw_installation(scene: Scene, size: tuple[int, int], rng: Random) -> Image.Image:
    width, height = size
    aside, above = width * MARGIN, height * MARGIN
    plane = Image.new("RGB", (round(width + 2 * aside), round(height + 2 * above)))
    canvas = Canvas(plane, rng, view=Frame(aside, above, aside + width, above + height))
    _draw_wall(canvas, scene)
    draw_objects(canvas, scene)
    coefficients = Viewpoint.of(scene).photo_to_plane(width, height)
    return plane.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)


def _draw_wall(canvas: Canvas, scene: Scene) -> None:
    rng, (width, height) = canvas.rng, canvas.picture.size
    wall = canvas.vary(rng.choice(_WALLS[scene.dataset]), 14)
    canvas.rectangle((0, 0, width, height), wall, width=0)
    for _ in range(rng.randint(0, 3)):
        shade = scale_colour(wall, rng.uniform(0.8, 1.15))
        start, share = rng.uniform(0, 1), rng.uniform(0.03, 0.12)
        if rng.random() < 0.5:
            stripe = (0.0, height * start, float(width), height * (start + share))
        else:
            stripe = (width * start, 0.0, width * (start + share), float(height))
        canvas.rectangle(stripe, shade, width=0)


def _burn_in_watermark(canvas: Canvas) -> None:
    """Time and coordinates, invented: the coordinates lie in the open sea."""
    rng = canvas.rng
    day = f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    time = f"{rng.randint(7, 18):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"
    place = f"N{rng.uniform(0, 5):.5f} W{rng.uniform(140, 150):.5f}"
    size = canvas.height * 0.04
    for row, text in enumerate((f"{day} {time}", place)):
        at = (canvas.width * 0.02, canvas.height * (0.895 + 0.05 * row))
        canvas.text(at, text, size, (255, 255, 255), bold=False)

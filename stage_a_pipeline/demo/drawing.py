"""From a scene to its photo: background, objects, lighting, blur and the burnt-in watermark."""

from __future__ import annotations

from random import Random
from typing import Final

from PIL import Image, ImageEnhance, ImageFilter

from stage_a_pipeline.demo.canvas import Canvas, scale_colour
from stage_a_pipeline.demo.installations import draw_objects
from stage_a_pipeline.demo.irrelevant import draw_irrelevant
from stage_a_pipeline.demo.scenes import Scene

_WALLS: Final = {
    "bbu": ((120, 124, 128), (88, 94, 100), (152, 148, 142), (72, 76, 84)),
    "rru": ((128, 152, 178), (150, 150, 140), (104, 118, 104)),
}
WATERMARK_CHANCE: Final = 0.6


def draw_scene(scene: Scene, size: tuple[int, int]) -> Image.Image:
    """The scene as an RGB photo of `size` (width, height); the same scene and size, the same pixels."""
    rng = Random(scene.seed)
    canvas = Canvas(Image.new("RGB", size), rng)
    if scene.irrelevant is not None:
        draw_irrelevant(canvas, scene.irrelevant)
    else:
        _draw_wall(canvas, scene)
        draw_objects(canvas, scene)
    if rng.random() < WATERMARK_CHANCE:
        _burn_in_watermark(canvas)
    return _as_photographed(canvas)


def _draw_wall(canvas: Canvas, scene: Scene) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
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


def _as_photographed(canvas: Canvas) -> Image.Image:
    rng, photo = canvas.rng, canvas.picture
    photo = ImageEnhance.Brightness(photo).enhance(rng.uniform(0.78, 1.18))
    photo = ImageEnhance.Contrast(photo).enhance(rng.uniform(0.88, 1.14))
    if rng.random() < 0.25:
        # A box blur costs the same at every radius, so that large photos stay cheap.
        photo = photo.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.9) * canvas.unit))
    return photo

"""Real photographs, shipped with the package: see `photographs/SOURCES.md`."""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files
from typing import Final

from PIL import Image, ImageOps

from stage_a_pipeline.demo.rendering.canvas import Canvas

PHOTOGRAPHS: Final = (
    "brick.jpg",
    "cat.jpg",
    "coffee.jpg",
    "galaxies.jpg",
    "grass.jpg",
    "gravel.jpg",
    "handwriting.jpg",
    "rocket.jpg",
)


def draw_photograph(canvas: Canvas) -> None:
    """Half to all of a photograph, in the canvas's shape, sometimes mirrored."""
    rng = canvas.rng
    photograph = load_photograph(rng.choice(PHOTOGRAPHS))
    scale = min(photograph.width / canvas.width, photograph.height / canvas.height) * rng.uniform(0.5, 1)
    wide, tall = canvas.width * scale, canvas.height * scale
    left, top = rng.uniform(0, photograph.width - wide), rng.uniform(0, photograph.height - tall)
    box = (left, top, min(left + wide, photograph.width), min(top + tall, photograph.height))
    crop = photograph.resize(canvas.picture.size, Image.Resampling.BILINEAR, box=box)
    canvas.picture.paste(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


@cache
def load_photograph(name: str) -> Image.Image:
    """A shipped photograph, decoded."""
    content = files("stage_a_pipeline.demo").joinpath("photographs", name).read_bytes()
    with Image.open(io.BytesIO(content)) as encoded:
        return encoded.convert("RGB")

"""What light, lens and sensor do to a photo."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from stage_a_pipeline.demo.rendering.canvas import UNIT_SIDE
from stage_a_pipeline.demo.scenes import DARK, GLARE, Remark

_NOISE_SIDE: Final = 256
_NOISE_LEVELS: Final = (0, 3, 6)


def expose(photo: Image.Image, rng: Random, remarks: tuple[Remark, ...] = ()) -> Image.Image:
    """The photo under uneven light, at times blurred and noisy, and with what the remarks say of it."""
    photo = ImageChops.multiply(photo, _light(photo.size, rng))
    if GLARE in remarks:
        photo = _with_glare(photo, rng)
    photo = photo.point(_tone_curve(rng, dark=DARK in remarks))
    unit = min(photo.size) / UNIT_SIDE
    photo = _blurred(photo, rng, unit)
    # Grain is as fine as a large photo's pixels; in a small one most of it has averaged out.
    level = round(rng.choice(_NOISE_LEVELS) * min(1.0, unit / 4))
    return ImageChops.add(photo, _noise(photo.size, level), scale=1, offset=-128) if level else photo


def _light(size: tuple[int, int], rng: Random) -> Image.Image:
    """Light that falls off to one side, with a tint, and at times with a soft shadow."""
    columns, rows = 16, 12
    across, down = rng.uniform(-0.22, 0.22), rng.uniform(-0.22, 0.22)
    x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    level = 1 + (across * x + down * y) / 2 - (abs(across) + abs(down)) / 2
    if rng.random() < 0.3:
        centre_x, centre_y, reach = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.3, 0.8)
        distance = ((x - centre_x) ** 2 + (y - centre_y) ** 2) / reach**2
        level = level * (1 - rng.uniform(0.1, 0.28) * np.exp(-distance))
    tint = np.array([1 - rng.uniform(0, 0.1), 1 - rng.uniform(0, 0.05), 1 - rng.uniform(0, 0.12)])
    light = np.clip(255 * level[..., None] * tint, 0, 255).astype(np.uint8)
    return Image.fromarray(light).resize(size, Image.Resampling.BILINEAR)


def _tone_curve(rng: Random, *, dark: bool) -> list[int]:
    """Brightness, contrast and gamma as one table for the three channels."""
    brightness = rng.uniform(0.42, 0.5) if dark else rng.uniform(0.86, 1.2)
    contrast, gamma = rng.uniform(0.85, 1.15), rng.uniform(0.88, 1.14)
    levels = (np.arange(256) / 255) ** gamma
    levels = ((levels - 0.5) * contrast + 0.5) * brightness
    return [int(level) for level in np.clip(levels * 255, 0, 255)] * 3


def _with_glare(photo: Image.Image, rng: Random) -> Image.Image:
    """A lamp mirrored from one of the view's sides: white in the middle, the more see-through outside."""
    width, height = photo.size
    reach = round(min(photo.size) * rng.uniform(0.55, 0.7))
    spot = ImageChops.invert(Image.radial_gradient("L")).resize((2 * reach, 2 * reach))
    strength = rng.uniform(1.05, 1.25)
    spot = spot.point([min(205, int(strength * level**2 / 255)) for level in range(256)])
    centre = rng.choice([(0.0, rng.random()), (1.0, rng.random()), (rng.random(), 0.0), (rng.random(), 1.0)])
    mask = Image.new("L", photo.size)
    mask.paste(spot, (round(centre[0] * width) - reach, round(centre[1] * height) - reach))
    return Image.composite(Image.new("RGB", photo.size, (255, 255, 250)), photo, mask)


def _blurred(photo: Image.Image, rng: Random, unit: float) -> Image.Image:
    """Out of focus or shaken, a third of the time; `unit` is the canvas's."""
    kind = rng.random()
    if kind < 0.2:
        # A box blur costs the same at every radius, so that large photos stay cheap.
        return photo.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.85) * unit))
    if kind < 0.33:
        along, across = rng.uniform(0.6, 1.2) * unit, rng.uniform(0, 0.3) * unit
        return photo.filter(ImageFilter.BoxBlur((along, across) if rng.random() < 0.5 else (across, along)))
    return photo


def _noise(size: tuple[int, int], level: int) -> Image.Image:
    """Grain around 128, one tile again and again."""
    noise = Image.new("RGB", size)
    tile = _noise_tile(level)
    for left in range(0, size[0], _NOISE_SIDE):
        for top in range(0, size[1], _NOISE_SIDE):
            noise.paste(tile, (left, top))
    return noise


@cache
def _noise_tile(level: int) -> Image.Image:
    grain = np.random.default_rng(level).normal(128, level, (_NOISE_SIDE, _NOISE_SIDE, 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))

"""The size at which a model sees a photo: whole squares of pixels, within its limits."""

from __future__ import annotations

import math
from typing import Final

from stage_a_pipeline.errors import PhotoError

MAX_ASPECT: Final = 200
"""Longer side over shorter side, at most: the limit of Qwen-VL's own image processor."""


def fit_pixels(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height as multiples of `factor` with an area from `min_pixels` to `max_pixels`.

    The proportions are kept as far as that allows. Equal to `smart_resize` of transformers' Qwen2-VL
    image processor, which takes height before width. Raises PhotoError (extreme_aspect).
    """
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PhotoError(
            "extreme_aspect",
            f"{width}x{height} pixels are more than {MAX_ASPECT} times as long as wide, which the model "
            "cannot take; crop the photo or remove it",
        )
    fitted_width = round(width / factor) * factor
    fitted_height = round(height / factor) * factor
    if fitted_width * fitted_height > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        fitted_width = max(factor, math.floor(width / shrink / factor) * factor)
        fitted_height = max(factor, math.floor(height / shrink / factor) * factor)
    elif fitted_width * fitted_height < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        fitted_width = math.ceil(width * grow / factor) * factor
        fitted_height = math.ceil(height * grow / factor) * factor
    return fitted_width, fitted_height


def most_pixels(*, factor: int, min_pixels: int, max_pixels: int) -> int:
    """An area that `fit_pixels` never exceeds.

    It is above `max_pixels` where sides are rounded up, or kept at `factor`.
    """
    longest = math.sqrt(MAX_ASPECT)
    kept = factor * longest * math.sqrt(max_pixels)
    grown = min_pixels + factor * (longest + 1 / longest) * math.sqrt(min_pixels) + factor**2
    return math.ceil(max(max_pixels, kept, grown))

"""Pictures that show no installation: what inspectors send by mistake."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from PIL import Image, ImageFilter

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, scale_colour
from stage_a_pipeline.demo.rendering.irrelevant.documents import draw_document
from stage_a_pipeline.demo.rendering.irrelevant.people import draw_portrait
from stage_a_pipeline.demo.rendering.irrelevant.photographs import draw_photograph
from stage_a_pipeline.demo.rendering.irrelevant.plans import draw_plan
from stage_a_pipeline.demo.rendering.irrelevant.screens import draw_screen
from stage_a_pipeline.demo.rendering.irrelevant.skies import draw_sky
from stage_a_pipeline.demo.rendering.irrelevant.streets import draw_street
from stage_a_pipeline.demo.rendering.irrelevant.textures import cloud_mask, fill_gradient, lay, threshold
from stage_a_pipeline.demo.scenes import IrrelevantKind

_FINE: Final[frozenset[IrrelevantKind]] = frozenset({"street", "document", "drawing", "chat", "portrait"})
_SMOOTH_SIDE: Final = 384
"""Pictures of fine lines and text with a shorter side below this are drawn larger and reduced: otherwise
small ones would be jagged where the model sees large ones smoothly scaled down."""

_FINGERS: Final[tuple[Colour, ...]] = ((214, 110, 84), (180, 70, 56), (230, 150, 120), (120, 60, 44))
_CLOTHS: Final[tuple[Colour, ...]] = ((30, 36, 60), (44, 30, 26), (24, 26, 28), (60, 40, 44))


def draw_irrelevant(canvas: Canvas, kind: IrrelevantKind) -> None:
    """Fill the canvas with a picture of that kind."""
    factor = math.ceil(_SMOOTH_SIDE / min(canvas.picture.size)) if kind in _FINE else 1
    if factor == 1:
        _DRAWINGS[kind](canvas)
        return
    width, height = canvas.picture.size
    large = Canvas(Image.new("RGB", (width * factor, height * factor)), canvas.rng)
    _DRAWINGS[kind](large)
    canvas.picture.paste(large.picture.reduce(factor))


def _draw_noise(canvas: Canvas) -> None:
    """A shot by accident."""
    canvas.rng.choice((_draw_blobs, _draw_finger, _draw_pocket, _draw_dark, _draw_smear))(canvas)


def _draw_blobs(canvas: Canvas) -> None:
    """Nothing in focus."""
    rng = canvas.rng
    small = Image.new("RGB", (rng.randint(4, 9), rng.randint(3, 7)))
    spread, base = rng.randint(15, 60), rng.randint(30, 170)
    cells = small.width * small.height
    small.putdata([_tinted(rng.gauss(base, spread), rng.gauss(0, spread / 3)) for _ in range(cells)])
    _stretch(canvas, small)


def _draw_finger(canvas: Canvas) -> None:
    """Skin over a corner or all of the lens, light shining through."""
    rng = canvas.rng
    skin = canvas.vary(rng.choice(_FINGERS), 16)
    behind = canvas.vary(rng.choice(((200, 210, 220), (90, 110, 90), (170, 150, 120))), 20)
    small = Image.new("RGB", (32, 24), behind)
    finger = Canvas(small, rng)
    for _ in range(4):
        spot = (rng.uniform(0, 32), rng.uniform(0, 24))
        finger.disc(spot, rng.uniform(3, 7), canvas.vary(behind, 50), width=0)
    centre = (rng.choice((0.0, 0.5, 1.0)) * 32, rng.choice((0.0, 1.0)) * 24)
    radius = rng.uniform(16, 30)
    for step in range(6):
        finger.disc(centre, radius * (1 - step * 0.12), scale_colour(skin, 0.7 + 0.09 * step), width=0)
    _stretch(canvas, small.filter(ImageFilter.GaussianBlur(2)))


def _draw_pocket(canvas: Canvas) -> None:
    """Dark cloth in folds."""
    rng = canvas.rng
    cloth = canvas.vary(rng.choice(_CLOTHS), 10)
    small = Image.new("RGB", (rng.randint(5, 10), 2))
    small.putdata([scale_colour(cloth, rng.uniform(0.4, 1.7)) for _ in range(small.width * 2)])
    _stretch(canvas, small)
    lay(canvas, scale_colour(cloth, 0.3), threshold(cloud_mask(rng, 3, 3), 120, 140))


def _draw_dark(canvas: Canvas) -> None:
    """Night without a flash, perhaps a far light."""
    rng = canvas.rng
    shade = canvas.vary((12, 12, 16), 10)
    fill_gradient(canvas, [shade, scale_colour(shade, rng.uniform(0.5, 2.5))])
    for _ in range(rng.randint(0, 3)):
        spot = (rng.uniform(0, 1) * canvas.width, rng.uniform(0, 1) * canvas.height)
        radius = rng.uniform(3, 14) * canvas.unit
        colour = canvas.vary((200, 160, 90), 50)
        for step in range(4):
            canvas.disc(spot, radius * (1 - step * 0.2), scale_colour(colour, 0.25 + 0.25 * step), width=0)


def _draw_smear(canvas: Canvas) -> None:
    """The camera moved: colours in streaks."""
    rng = canvas.rng
    base = canvas.vary((120, 116, 108), 35)
    count = rng.randint(8, 24)
    tints = [canvas.vary(scale_colour(base, rng.uniform(0.4, 1.7)), 16) for _ in range(count)]
    small = Image.new("RGB", (1, count))
    small.putdata(tints)
    streaks = small.resize((160, 120), Image.Resampling.BICUBIC)
    turned = streaks.rotate(rng.choice((0, 90, 180)) + rng.uniform(-25, 25), Image.Resampling.BICUBIC)
    _stretch(canvas, turned.crop((50, 35, 110, 85)))


def _stretch(canvas: Canvas, small: Image.Image) -> None:
    canvas.picture.paste(small.resize(canvas.picture.size, Image.Resampling.BICUBIC))


def _tinted(level: float, tint: float) -> Colour:
    red, green, blue = (max(0, min(255, int(level + shift))) for shift in (tint, 0, -tint))
    return red, green, blue


_DRAWINGS: Final[Mapping[IrrelevantKind, Callable[[Canvas], None]]] = MappingProxyType(
    {
        "street": draw_street,
        "sky": draw_sky,
        "document": draw_document,
        "drawing": draw_plan,
        "chat": draw_screen,
        "portrait": draw_portrait,
        "photograph": draw_photograph,
        "noise": _draw_noise,
    }
)

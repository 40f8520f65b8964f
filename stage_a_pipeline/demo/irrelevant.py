"""Pictures that show no installation: what inspectors send by mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from PIL import Image, ImageFilter

from stage_a_pipeline.demo.canvas import Canvas
from stage_a_pipeline.demo.scenes import IrrelevantKind

_GROUNDS: Final = ((200, 180, 160), (120, 170, 220), (240, 240, 235), (70, 110, 70), (30, 30, 30))


def draw_irrelevant(canvas: Canvas, kind: IrrelevantKind) -> None:
    """Fill the canvas with a picture of that kind."""
    ground = canvas.vary(canvas.rng.choice(_GROUNDS), 20)
    canvas.rectangle((0, 0, canvas.width, canvas.height), ground, width=0)
    _DRAWINGS[kind](canvas)


def _street(canvas: Canvas) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
    horizon = height * rng.uniform(0.4, 0.7)
    canvas.rectangle((0, 0, width, horizon), canvas.vary((130, 180, 235)), width=0)
    canvas.rectangle((0, horizon, width, height), canvas.vary((80, 130, 60)), width=0)
    for _ in range(rng.randint(0, 4)):
        left, wide = rng.uniform(0, width), width * rng.uniform(0.1, 0.25)
        top = horizon - height * rng.uniform(0.1, 0.35)
        house = (left, top, left + wide, horizon + height * 0.02)
        canvas.rectangle(house, canvas.vary((170, 140, 120), 30), width=0)
    sun = width * 0.06
    canvas.disc((width * rng.uniform(0.1, 0.9), height * 0.05 + sun), sun, (255, 230, 120), width=0)


def _document(canvas: Canvas) -> None:
    canvas.rectangle((0, 0, canvas.width, canvas.height), canvas.vary((240, 240, 234), 8), width=0)
    for line in range(12):
        letters = canvas.rng.choices("abcdefghijk lmnop qrstu", k=canvas.rng.randint(10, 26))
        at = (canvas.width * 0.06, canvas.height * (0.06 + 0.075 * line))
        canvas.text(at, "".join(letters), canvas.height * 0.05, (40, 40, 40), bold=False)


def _drawing(canvas: Canvas) -> None:
    """A plan: thin lines, circles and dimensions on paper."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    blueprint = rng.random() < 0.4
    paper, ink = ((36, 70, 140), (220, 230, 250)) if blueprint else ((244, 244, 238), (60, 60, 70))
    canvas.rectangle((0, 0, width, height), canvas.vary(paper, 8), width=0)
    for _ in range(rng.randint(8, 14)):
        x, y = rng.uniform(0.02, 0.8) * width, rng.uniform(0.02, 0.8) * height
        far_x, far_y = x + rng.uniform(0.05, 0.4) * width, y + rng.uniform(0.05, 0.4) * height
        corners = [(x, y), (far_x, y), (far_x, far_y), (x, far_y), (x, y)]
        canvas.line(corners, ink, canvas.unit)
        canvas.text((x, y), str(rng.randint(100, 9999)), height * 0.035, ink, bold=False)
    for _ in range(rng.randint(1, 4)):
        radius = rng.uniform(0.05, 0.15) * height
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
        canvas.arc((x - radius, y - radius, x + radius, y + radius), 0, 360, ink, 1)


def _chat(canvas: Canvas) -> None:
    """A chat on a phone: bubbles left and right."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    canvas.rectangle((0, 0, width, height), canvas.vary((236, 236, 238), 6), width=0)
    canvas.rectangle((0, 0, width, height * 0.08), canvas.vary((60, 62, 68), 8), width=0)
    y = 0.12
    while y < 0.9:
        tall, wide = rng.uniform(0.06, 0.14), rng.uniform(0.3, 0.65)
        mine = rng.random() < 0.5
        left = 0.92 - wide if mine else 0.08
        bubble = (left * width, y * height, (left + wide) * width, (y + tall) * height)
        canvas.rectangle(bubble, canvas.vary((150, 232, 105) if mine else (255, 255, 255), 5), width=0)
        for row in range(int(tall / 0.045)):
            line_y = (y + 0.025 + 0.045 * row) * height
            end = (left + wide * rng.uniform(0.5, 0.95)) * width
            canvas.line([((left + 0.03) * width, line_y), (end, line_y)], (70, 70, 70), 2 * canvas.unit)
        y += tall + 0.03


def _portrait(canvas: Canvas) -> None:
    rng, width, height = canvas.rng, canvas.width, canvas.height
    x, y, size = (
        width * rng.uniform(0.25, 0.4),
        height * rng.uniform(0.1, 0.25),
        width * rng.uniform(0.3, 0.45),
    )
    canvas.rectangle(
        (x - size * 0.2, y + size * 1.1, x + size * 1.2, height), canvas.vary((60, 80, 150), 40), width=0
    )
    canvas.ellipse((x, y, x + size, y + size * 1.2), canvas.vary((226, 180, 150)), width=0)
    for eye in (0.3, 0.7):
        canvas.disc((x + size * eye, y + size * 0.45), size * 0.05, (30, 30, 30), width=0)
    mouth = (x + size * 0.3, y + size * 0.6, x + size * 0.7, y + size * 0.9)
    canvas.arc(mouth, 0, 180, (150, 40, 40), 4)


def _noise(canvas: Canvas) -> None:
    """A finger on the lens, a pocket, the dark: blurred blobs."""
    rng = canvas.rng
    small = Image.new("RGB", (12, 9))
    spread, base = rng.randint(15, 90), rng.randint(20, 170)
    small.putdata([_grey(rng.gauss(base, spread), rng.gauss(0, spread / 4)) for _ in range(108)])
    smooth = small.resize(canvas.picture.size, Image.Resampling.BICUBIC)
    canvas.picture.paste(smooth.filter(ImageFilter.BoxBlur(2 * canvas.unit)))


def _grey(level: float, tint: float) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, int(level + shift))) for shift in (tint, 0, -tint))
    return red, green, blue


_DRAWINGS: Final[Mapping[IrrelevantKind, Callable[[Canvas], None]]] = MappingProxyType(
    {
        "street": _street,
        "document": _document,
        "drawing": _drawing,
        "chat": _chat,
        "portrait": _portrait,
        "noise": _noise,
    }
)

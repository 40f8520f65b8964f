"""The few SVG elements of the pictures, and their colours; what comes from files or models is escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate, takewhile
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 1100
"""Of a picture: what Dagster's dialog shows without scrolling."""
FONTS: Final = (
    "'Noto Sans CJK SC', 'Noto Sans SC', 'PingFang SC', 'Microsoft YaHei', 'Source Han Sans SC', sans-serif"
)
INK, QUIET, LINE, EMPTY = "#1f2933", "#66727f", "#d5dbe1", "#f4f6f8"
Ends = tuple[tuple[int, int, int], tuple[int, int, int]]
"""The colours of a share of nothing and of all."""
RIGHT: Final[Ends] = ((222, 235, 247), (8, 69, 148))
WRONG: Final[Ends] = ((254, 230, 206), (179, 63, 2))
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WIDE: Final = ("W", "F")


def document(width: float, height: float, elements: Iterable[str]) -> str:
    """A whole SVG document of that size on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_number(width)}" height="{_number(height)}" '
        f'viewBox="0 0 {_number(width)} {_number(height)}" font-family="{FONTS}" font-size="12">'
    )
    return "\n".join([head, rectangle(0, 0, width, height, "#ffffff"), *elements, "</svg>"]) + "\n"


def rectangle(
    x: float, y: float, width: float, height: float, fill: str, *, stroke: str = "none", radius: float = 0
) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}" '
        f'rx="{_number(radius)}" fill="{fill}" stroke="{stroke}"/>'
    )


def line(start: tuple[float, float], end: tuple[float, float], stroke: str, *, width: float = 1) -> str:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}" '
        f'stroke="{stroke}" stroke-width="{_number(width)}"/>'
    )


def curve(points: Iterable[tuple[float, float]], stroke: str, *, width: float = 1, opacity: float = 1) -> str:
    """A line through points."""
    places = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return (
        f'<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="{_number(width)}" '
        f'stroke-linejoin="round" opacity="{opacity:g}"/>'
    )


def dot(x: float, y: float, radius: float, fill: str) -> str:
    """A filled circle."""
    return f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}" fill="{fill}"/>'


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: float = 12,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "normal",
    turn: float = 0,
) -> str:
    """Text whose base line begins, ends or is centred at a point, turned around it by degrees."""
    turned = f' transform="rotate({_number(turn)} {_number(x)} {_number(y)})"' if turn else ""
    return (
        f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}" fill="{fill}" '
        f'text-anchor="{anchor}" font-weight="{weight}"{turned}>{escape(_clean(text))}</text>'
    )


def with_hint(element: str, hint: str) -> str:
    """The element with a text that shows when the mouse rests on it."""
    return f"<g><title>{escape(_clean(hint))}</title>{element}</g>"


def group(x: float, y: float, name: str, elements: Iterable[str]) -> str:
    """Elements moved together, under a name for those who cannot see them."""
    inside = "\n".join(elements)
    moved = f"translate({_number(x)} {_number(y)})"
    return f'<g transform="{moved}" role="img" aria-label={quoteattr(_clean(name))}>\n{inside}\n</g>'


def shade(ends: Ends, share: float) -> str:
    """The colour of that share."""
    light, dark = ends
    mixed = (round(a + (b - a) * share) for a, b in zip(light, dark, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def text_width(text: str, size: float = 12) -> float:
    """About how wide a text is drawn: Chinese characters are as wide as high, others about half of it."""
    return size * sum(1.0 if unicodedata.east_asian_width(mark) in _WIDE else 0.55 for mark in text)


def shortened(text: str, width: float, size: float = 12) -> str:
    """The text, cut with an ellipsis where it is wider than that."""
    if text_width(text, size) <= width:
        return text
    ends = accumulate((text_width(mark, size) for mark in text), initial=text_width("…", size))
    return text[: max(0, sum(1 for _ in takewhile(lambda end: end <= width, ends)) - 1)] + "…"


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

"""The few SVG elements that the picture needs, as text; everything from files or models is escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate, takewhile
from typing import Final
from xml.sax.saxutils import escape, quoteattr

FONTS: Final = (
    "'Noto Sans CJK SC', 'Noto Sans SC', 'PingFang SC', 'Microsoft YaHei', 'Source Han Sans SC', sans-serif"
)
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


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: float = 12,
    fill: str = "#1f2933",
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

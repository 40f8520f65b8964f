"""Letters, forms, receipts, reports and notes on paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour
from stage_a_pipeline.demo.rendering.frame import Point
from stage_a_pipeline.demo.rendering.irrelevant.sheets import Sheet, invented_word, lay_sheet

_PAPERS: Final[tuple[Colour, ...]] = ((246, 246, 242), (250, 250, 250), (240, 232, 212), (228, 230, 232))
_INK: Final = (44, 44, 50)
_RED: Final = (204, 40, 44)
_HANDS: Final[tuple[Colour, ...]] = ((30, 50, 140), (40, 40, 46), (120, 30, 40))


def draw_document(canvas: Canvas) -> None:
    """A page that fills the picture or lies on a desk."""
    sheet = lay_sheet(canvas, canvas.vary(canvas.rng.choice(_PAPERS), 6))
    canvas.rng.choice(_PAGES)(sheet)
    if canvas.rng.random() < 0.4:
        _stamp(sheet, canvas.rng.uniform(0.6, 0.8), canvas.rng.uniform(0.6, 0.85))


def _letter(sheet: Sheet) -> None:
    rng = sheet.canvas.rng
    size = rng.uniform(0.026, 0.042)
    row, ink = size * 1.5 * sheet.width / sheet.height, sheet.canvas.vary(_INK, 20)
    y = 0.05 + _heading(sheet, 0.05)
    write = rng.choice((sheet.words, sheet.signs))
    while y < 0.92:
        for line in range(rng.randint(3, 6)):
            if y > 0.94:
                return
            end = rng.uniform(0.3, 0.9) if line == 0 and rng.random() < 0.2 else 0.93
            write(0.07 + (0.06 if line == 0 else 0), y, end, size, ink)
            y += row
        y += row * 0.6


def _form(sheet: Sheet) -> None:
    """A table with a head row, some cells filled in, some ticked."""
    canvas, rng = sheet.canvas, sheet.canvas.rng
    ink, hand = canvas.vary(_INK, 20), canvas.vary(rng.choice(_HANDS))
    top = 0.06 + _heading(sheet, 0.04)
    rows, columns = rng.randint(6, 12), rng.randint(3, 6)
    step, wide = (0.94 - top) / rows, 0.9 / columns
    size = min(0.032, step * sheet.height / sheet.width * 0.5)
    head = canvas.vary(rng.choice(((214, 222, 236), (226, 226, 226), (214, 234, 214), (250, 226, 190))), 6)
    sheet.filled_box(0.05, top, 0.95, top + step, head)
    for row in range(rows + 1):
        sheet.line([(0.05, top + row * step), (0.95, top + row * step)], ink)
    for column in range(columns + 1):
        sheet.line([(0.05 + column * wide, top), (0.05 + column * wide, top + rows * step)], ink)
    write = rng.choice((sheet.words, sheet.signs))
    for row in range(rows):
        for column in range(columns):
            x, y = 0.05 + column * wide, top + row * step
            if row == 0 or column == 0:
                write(x + wide * 0.1, y + step * 0.25, x + wide * 0.95, size, ink)
            elif rng.random() < 0.3:
                tick = [(0.4, 0.5), (0.48, 0.75), (0.65, 0.25)]
                sheet.line([(x + wide * across, y + step * down) for across, down in tick], hand, 1.4)
            elif rng.random() < 0.7:
                sheet.text(x + wide * 0.15, y + step * 0.25, str(rng.randint(1, 9999)), size, hand)


def _report(sheet: Sheet) -> None:
    """A chart between paragraphs."""
    canvas, rng = sheet.canvas, sheet.canvas.rng
    ink, top = canvas.vary(_INK, 20), 0.06 + _heading(sheet, 0.045)
    bottom = top + rng.uniform(0.35, 0.5)
    sheet.line([(0.1, top), (0.1, bottom), (0.92, bottom)], ink, 1.4)
    bars, paint = rng.randint(5, 10), canvas.vary((60, 110, 200), 70)
    heights = [rng.uniform(0.1, 0.95) * (bottom - top) for _ in range(bars)]
    centres = [0.1 + 0.8 * (bar + 0.6) / bars for bar in range(bars)]
    if rng.random() < 0.6:
        for x, tall in zip(centres, heights, strict=True):
            sheet.filled_box(x - 0.25 / bars, bottom - tall, x + 0.25 / bars, bottom, paint)
    else:
        points = [(x, bottom - tall) for x, tall in zip(centres, heights, strict=True)]
        sheet.line(points, paint, 2)
    row = 0.045 * sheet.width / sheet.height
    write, y = rng.choice((sheet.words, sheet.signs)), bottom + row
    while y < 0.95:
        write(0.07, y, 0.93, 0.03, ink)
        y += row


def _receipt(sheet: Sheet) -> None:
    """Two columns of items and prices, a bar code."""
    canvas, rng = sheet.canvas, sheet.canvas.rng
    ink, size = canvas.vary(_INK, 20), rng.uniform(0.035, 0.05)
    row, y = size * 1.5 * sheet.width / sheet.height, 0.05 + _heading(sheet, 0.06)
    sheet.line([(0.1, y), (0.9, y)], ink)
    while y + row < 0.7:
        sheet.words(0.1, y + row * 0.3, 0.6, size, ink)
        sheet.text(0.74, y + row * 0.3, f"{rng.uniform(1, 999):.2f}", size, ink)
        y += row
    sheet.line([(0.1, y + row * 0.3), (0.9, y + row * 0.3)], ink)
    sheet.text(0.1, y + row * 0.6, f"TOTAL  {rng.uniform(50, 5000):.2f}", size * 1.3, ink, bold=True)
    x = 0.2
    while x < 0.8:
        bar = rng.choice((0.004, 0.008, 0.013))
        sheet.filled_box(x, 0.86, x + bar, 0.96, (20, 20, 22))
        x += bar + rng.choice((0.004, 0.009))


def _notes(sheet: Sheet) -> None:
    """Handwriting on ruled paper."""
    canvas, rng = sheet.canvas, sheet.canvas.rng
    hand, rows = canvas.vary(rng.choice(_HANDS)), rng.randint(8, 14)
    step = 0.9 / rows
    for row in range(rows + 1):
        sheet.line([(0, 0.07 + row * step), (1, 0.07 + row * step)], (170, 196, 226), 0.8)
    sheet.line([(0.1, 0), (0.1, 1)], (226, 130, 130))
    for row in range(1, rng.randint(4, rows)):
        x, end, base = 0.13, rng.uniform(0.6, 0.95), 0.07 + (row - 0.15) * step
        while x < end:
            letters = rng.randint(2, 7)
            _scribble(sheet, (x, base), letters, step, hand)
            x += 0.02 * letters + 0.03


def _scribble(sheet: Sheet, start: Point, letters: int, step: float, hand: Colour) -> None:
    """A joined-up word: loops that drift to the right (a trochoid), some of them tall."""
    rng, (x, base) = sheet.canvas.rng, start
    curve = []
    for letter in range(letters):
        tall, loop = rng.choice((0.25, 0.25, 0.3, 0.55)) * step, rng.uniform(-0.004, 0.011)
        for part in range(8):
            turn = part * math.pi / 4
            across = x + 0.02 * (letter + part / 8) + loop * math.sin(turn)
            curve.append((across, base - tall * (1 - math.cos(turn)) / 2))
    sheet.line(curve, hand, 1.1)


def _heading(sheet: Sheet, size: float) -> float:
    """Write a heading and tell the share of the sheet's height that it takes."""
    rng = sheet.canvas.rng
    ink = _RED if rng.random() < 0.15 else (24, 24, 28)
    tall = size * 1.9 * sheet.width / sheet.height
    if rng.random() < 0.5:
        sheet.signs(rng.uniform(0.1, 0.3), 0.05, 0.8, size * 1.2, ink)
    else:
        words = " ".join(invented_word(sheet.canvas, rng.randint(4, 8)) for _ in range(3)).title()
        sheet.text(rng.uniform(0.08, 0.24), 0.05, words, size, ink, bold=True)
    return tall


def _stamp(sheet: Sheet, x: float, y: float) -> None:
    """A round red stamp with a star."""
    sheet.circle(x, y, 0.11, _RED, width=2)
    sheet.circle(x, y, 0.085, _RED, width=0.8)
    ratio = sheet.width / sheet.height
    star = []
    for corner in range(10):
        reach, turn = (0.035 if corner % 2 == 0 else 0.014), math.pi * (corner / 5 - 0.5)
        star.append((x + reach * math.cos(turn), y + reach * ratio * math.sin(turn)))
    sheet.area(star, _RED)
    sheet.words(x - 0.06, y + 0.045 * ratio, x + 0.07, 0.02, _RED)


_PAGES: Final[tuple[Callable[[Sheet], None], ...]] = (_letter, _form, _report, _receipt, _notes)

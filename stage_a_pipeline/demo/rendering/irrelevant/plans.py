"""Technical drawings: floor plans, circuits, machine parts and networks of boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour
from stage_a_pipeline.demo.rendering.frame import Point
from stage_a_pipeline.demo.rendering.irrelevant.sheets import Sheet, invented_word, lay_sheet

_STYLES: Final[tuple[tuple[Colour, Colour], ...]] = (
    ((246, 246, 242), (50, 52, 60)),
    ((250, 250, 250), (30, 30, 34)),
    ((36, 70, 140), (222, 232, 250)),
    ((240, 230, 206), (80, 60, 46)),
    ((24, 28, 32), (120, 220, 160)),
)
_SMALL: Final = 0.024
_Room = tuple[float, float, float, float]


def draw_plan(canvas: Canvas) -> None:
    """A drawing on white, yellowed or blue paper, or on a dark screen."""
    rng = canvas.rng
    paper, ink = rng.choice(_STYLES)
    sheet = lay_sheet(canvas, canvas.vary(paper, 6), askew_chance=0.3)
    ink = canvas.vary(ink, 12)
    if rng.random() < 0.3:
        faint = _blend(sheet.paper, ink, 0.15)
        for step in range(1, 24):
            sheet.line([(step / 24, 0), (step / 24, 1)], faint, 0.6)
            sheet.line([(0, step / 24), (1, step / 24)], faint, 0.6)
    if rng.random() < 0.7:
        sheet.box(0.02, 0.025, 0.98, 0.975, ink, 1.2)
        _title_block(sheet, ink)
    rng.choice(_PLANS)(sheet, ink)


def _title_block(sheet: Sheet, ink: Colour) -> None:
    sheet.box(0.7, 0.87, 0.98, 0.975, ink)
    for y in (0.905, 0.94):
        sheet.line([(0.7, y), (0.98, y)], ink, 0.8)
    sheet.line([(0.8, 0.87), (0.8, 0.975)], ink, 0.8)
    for row in range(3):
        sheet.words(0.81, 0.878 + 0.035 * row, 0.97, 0.018, ink)


def _floor_plan(sheet: Sheet, ink: Colour) -> None:
    """Walls, rooms, doors with their swing, windows, furniture and dimensions."""
    rng = sheet.canvas.rng
    outline = (0.12, 0.14, rng.uniform(0.8, 0.93), rng.uniform(0.7, 0.83))
    rooms = _split(sheet, outline, rng.randint(2, 3))
    for room in rooms:
        left, top, right, bottom = room
        sheet.box(*room, ink, 2.4)
        reach = min(right - left, bottom - top) * 0.35
        ratio = sheet.width / sheet.height
        sheet.line([(left + 0.01, bottom), (left + 0.01 + reach, bottom)], sheet.paper, 3.2)
        sheet.line([(left + 0.01, bottom), (left + 0.01, bottom - reach * ratio)], ink, 0.8)
        sheet.circle(left + 0.01, bottom, reach, ink, start=270, end=360, width=0.8)
        sheet.text((left + right) / 2 - 0.03, (top + bottom) / 2, f"{rng.uniform(4, 40):.1f}", _SMALL, ink)
        _furnish(sheet, room, ink)
    _dimension(sheet, (outline[0], 0.08), (outline[2], 0.08), ink)
    _dimension(sheet, (0.065, outline[1]), (0.065, outline[3]), ink)


def _split(sheet: Sheet, room: _Room, depth: int) -> list[_Room]:
    if depth == 0:
        return [room]
    left, top, right, bottom = room
    share = sheet.canvas.rng.uniform(0.35, 0.65)
    if (right - left) * sheet.width > (bottom - top) * sheet.height:
        wall = left + (right - left) * share
        halves = ((left, top, wall, bottom), (wall, top, right, bottom))
    else:
        wall = top + (bottom - top) * share
        halves = ((left, top, right, wall), (left, wall, right, bottom))
    return [part for half in halves for part in _split(sheet, half, depth - 1)]


def _furnish(sheet: Sheet, room: _Room, ink: Colour) -> None:
    rng, (left, top, right, bottom) = sheet.canvas.rng, room
    wide, tall = right - left, bottom - top
    choice = rng.randrange(4)
    if choice == 0:
        sheet.box(right - wide * 0.4, top + tall * 0.08, right - wide * 0.06, top + tall * 0.36, ink, 0.8)
        sheet.line(
            [(right - wide * 0.3, top + tall * 0.08), (right - wide * 0.3, top + tall * 0.36)], ink, 0.8
        )
    elif choice == 1:
        sheet.circle(right - wide * 0.25, top + tall * 0.28, min(wide, tall) * 0.14, ink, width=0.8)
    elif choice == 2:
        for step in range(1, 7):
            x = right - wide * 0.07 * step
            sheet.line([(x, top), (x, top + tall * 0.3)], ink, 0.8)


def _dimension(sheet: Sheet, start: Point, end: Point, ink: Colour) -> None:
    """A line with slashes at its ends and in between, and lengths beside it."""
    rng, parts = sheet.canvas.rng, sheet.canvas.rng.randint(1, 3)
    sheet.line([start, end], ink, 0.8)
    for part in range(parts + 1):
        x, y = start[0] + (end[0] - start[0]) * part / parts, start[1] + (end[1] - start[1]) * part / parts
        sheet.line([(x - 0.01, y + 0.015), (x + 0.01, y - 0.015)], ink, 1.4)
        if part < parts:
            middle = (x + (end[0] - start[0]) * 0.4 / parts, y + (end[1] - start[1]) * 0.4 / parts)
            sheet.text(middle[0] - 0.03, middle[1] - 0.045, str(rng.randint(300, 9900)), _SMALL, ink)


def _circuit(sheet: Sheet, ink: Colour) -> None:
    """Orthogonal wires between resistors, capacitors, chips and earth symbols."""
    rng = sheet.canvas.rng
    rows = [0.14 + 0.2 * row for row in range(4)]
    for y in rows:
        x = 0.08
        while x < 0.86:
            end = x + rng.uniform(0.12, 0.2)
            rng.choice((_resistor, _capacitor, _chip, _lead))(sheet, x, end, y, ink)
            x = end
        for _ in range(rng.randint(1, 3)):
            x = rng.uniform(0.1, 0.85)
            sheet.line([(x, y), (x, y + rng.choice((0.1, 0.2)))], ink)
            sheet.circle(x, y, 0.005, ink, width=2)
    for _ in range(rng.randint(1, 4)):
        x, y = rng.uniform(0.1, 0.85), rng.choice(rows) + 0.1
        for step, half in enumerate((0.02, 0.013, 0.006)):
            sheet.line([(x - half, y + step * 0.012), (x + half, y + step * 0.012)], ink)


def _resistor(sheet: Sheet, x: float, end: float, y: float, ink: Colour) -> None:
    teeth = [(x + (end - x) * (0.3 + 0.05 * tooth), y + (0.02 if tooth % 2 else -0.02)) for tooth in range(9)]
    sheet.line([(x, y), (x + (end - x) * 0.27, y), *teeth, (x + (end - x) * 0.73, y), (end, y)], ink)
    sheet.text(x + (end - x) * 0.3, y - 0.065, f"R{sheet.canvas.rng.randint(1, 99)}", _SMALL, ink)


def _capacitor(sheet: Sheet, x: float, end: float, y: float, ink: Colour) -> None:
    left, right = x + (end - x) * 0.46, x + (end - x) * 0.54
    for start, stop, plate in ((x, left, left), (right, end, right)):
        sheet.line([(start, y), (stop, y)], ink)
        sheet.line([(plate, y - 0.035), (plate, y + 0.035)], ink, 1.6)


def _chip(sheet: Sheet, x: float, end: float, y: float, ink: Colour) -> None:
    left, right = x + (end - x) * 0.25, x + (end - x) * 0.75
    sheet.box(left, y - 0.06, right, y + 0.06, ink, 1.4)
    for pin in (-0.035, 0, 0.035):
        sheet.line([(x, y + pin), (left, y + pin)], ink, 0.8)
        sheet.line([(right, y + pin), (end, y + pin)], ink, 0.8)
    sheet.text(left + 0.008, y - 0.02, f"U{sheet.canvas.rng.randint(1, 20)}", _SMALL, ink)


def _lead(sheet: Sheet, x: float, end: float, y: float, ink: Colour) -> None:
    sheet.line([(x, y), (end, y)], ink)


def _machine_part(sheet: Sheet, ink: Colour) -> None:
    """Circles within circles beside a side view, with centre lines and dimensions."""
    rng = sheet.canvas.rng
    x, y, radius = 0.3, rng.uniform(0.42, 0.55), rng.uniform(0.13, 0.2)
    ratio = sheet.width / sheet.height
    for share in (1, rng.uniform(0.6, 0.85), rng.uniform(0.2, 0.5)):
        sheet.circle(x, y, radius * share, ink, width=1.4)
    _centre_line(sheet, (x - radius * 1.3, y), (x + radius * 1.3, y), ink)
    _centre_line(sheet, (x, y - radius * 1.3 * ratio), (x, y + radius * 1.3 * ratio), ink)
    left, deep = 0.62, rng.uniform(0.12, 0.22)
    for share, start, end in ((1.0, 0.0, 0.5), (rng.uniform(0.3, 0.7), 0.5, 1.0)):
        half = radius * share * ratio
        sheet.box(left + deep * start, y - half, left + deep * end, y + half, ink, 1.4)
    hatches, half = 8, radius * ratio
    for hatch in range(hatches):
        low = y - half + 2 * half * hatch / hatches
        sheet.line([(left, low + half * 0.2), (left + deep * 0.5, low)], ink, 0.6)
    _centre_line(sheet, (left - 0.05, y), (left + deep + 0.08, y), ink)
    below = min(0.84, y + radius * ratio + 0.09)
    _dimension(sheet, (x - radius, below), (x + radius, below), ink)
    _dimension(sheet, (left, below), (left + deep, below), ink)
    sheet.text(x + radius * 0.7, y - radius * ratio, f"R{rng.randint(5, 90)}", _SMALL * 1.2, ink)


def _centre_line(sheet: Sheet, start: Point, end: Point, ink: Colour) -> None:
    for dash in range(9):
        first, last = dash / 9, (dash + (0.8 if dash % 2 == 0 else 0.3)) / 9
        points = [
            (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
            for share in (first, last)
        ]
        sheet.line(points, ink, 0.7)


def _boxes(sheet: Sheet, ink: Colour) -> None:
    """A flow chart: named boxes in rows, arrows between them."""
    canvas, rng = sheet.canvas, sheet.canvas.rng
    tints = [_blend(sheet.paper, canvas.vary((90, 140, 220), 60), 0.35) for _ in range(3)]
    rows = [rng.randint(1, 4) for _ in range(4)]
    above: list[Point] = []
    for row, count in enumerate(rows):
        y, centres = 0.15 + 0.21 * row, [(place + 0.5) / count * 0.84 + 0.08 for place in range(count)]
        for x in centres:
            if above:
                foot = rng.choice(above)
                sheet.line([foot, (foot[0], y - 0.08), (x, y - 0.08), (x, y - 0.05)], ink)
                sheet.area([(x - 0.01, y - 0.07), (x + 0.01, y - 0.07), (x, y - 0.048)], ink)
            sheet.filled_box(x - 0.085, y - 0.05, x + 0.085, y + 0.05, rng.choice(tints))
            sheet.box(x - 0.085, y - 0.05, x + 0.085, y + 0.05, ink)
            sheet.text(x - 0.06, y - 0.02, invented_word(canvas, rng.randint(4, 7)).upper(), _SMALL, ink)
        above = [(x, y + 0.05) for x in centres]


def _blend(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


_PLANS: Final[tuple[Callable[[Sheet, Colour], None], ...]] = (_floor_plan, _circuit, _machine_part, _boxes)

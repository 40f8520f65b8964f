"""What a phone shows: chats, settings, maps and home screens, as screenshots or photographed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image, ImageOps

from stage_a_pipeline.demo.rendering.canvas import Canvas, Colour, bezier, scale_colour
from stage_a_pipeline.demo.rendering.frame import Box, Frame
from stage_a_pipeline.demo.rendering.irrelevant.sheets import invented_word

_ACCENTS: Final[tuple[Colour, ...]] = (
    (38, 170, 90),
    (40, 120, 240),
    (240, 90, 60),
    (250, 180, 40),
    (130, 90, 220),
    (30, 170, 190),
    (230, 70, 130),
)


@dataclass(frozen=True, slots=True)
class _Screen:
    """The display within the picture and its colours."""

    canvas: Canvas
    frame: Frame
    dark: bool
    accent: Colour

    @property
    def ground(self) -> Colour:
        return (20, 20, 22) if self.dark else (238, 238, 240)

    @property
    def card(self) -> Colour:
        return (44, 44, 48) if self.dark else (255, 255, 255)

    @property
    def ink(self) -> Colour:
        return (226, 226, 228) if self.dark else (30, 30, 34)

    @property
    def faint(self) -> Colour:
        return (120, 120, 126) if self.dark else (160, 160, 166)

    @property
    def letter(self) -> float:
        """The letter size of plain text, in pixels."""
        return min(self.frame.width * 0.05, self.frame.height * 0.034)

    def text(
        self, x: float, y: float, text: str, ink: Colour, *, scale: float = 1, bold: bool = False
    ) -> None:
        self.canvas.text(self.frame.at(x, y), text, self.letter * scale, ink, bold=bold)


def draw_screen(canvas: Canvas) -> None:
    """A screenshot over the whole picture or between bars, or a phone on a table."""
    rng, (width, height) = canvas.rng, canvas.picture.size
    setting = rng.random()
    if width <= 0.8 * height or setting < 0.35:
        canvas.picture.paste(_draw_display(rng, (width, height)))
        return
    tall = height if setting < 0.65 else round(height * rng.uniform(0.86, 1.1))
    display = _draw_display(rng, (round(tall * 0.54), tall))
    if setting < 0.65:
        canvas.rectangle(
            (0, 0, width, height), rng.choice(((0, 0, 0), (255, 255, 255), (30, 30, 32))), width=0
        )
        canvas.picture.paste(display, ((width - display.width) // 2, 0))
        return
    _draw_table(canvas)
    phone = ImageOps.expand(display, max(1, round(display.width * 0.035)), (20, 20, 24))
    angle, solid = rng.uniform(-9, 9), Image.new("L", phone.size, 255)
    turned, mask = (part.rotate(angle, Image.Resampling.BILINEAR, expand=True) for part in (phone, solid))
    left = round(rng.uniform(0.3, 0.7) * (width - turned.width))
    canvas.picture.paste(turned, (left, (height - turned.height) // 2), mask)


def _draw_display(rng: Random, size: tuple[int, int]) -> Image.Image:
    canvas = Canvas(Image.new("RGB", size), rng)
    frame = Frame(0, 0, canvas.width, canvas.height)
    screen = _Screen(canvas, frame, rng.random() < 0.25, canvas.vary(rng.choice(_ACCENTS), 16))
    canvas.rectangle(frame.box, screen.ground, width=0)
    rng.choices(_SCREENS, (5, 2, 2, 1))[0](screen)
    _draw_status(screen)
    return canvas.picture


def _draw_table(canvas: Canvas) -> None:
    rng, (width, height) = canvas.rng, canvas.picture.size
    table = canvas.vary(rng.choice(((176, 130, 84), (226, 220, 208), (100, 60, 44), (90, 120, 110))), 16)
    canvas.rectangle((0, 0, width, height), table, width=0)
    for line in range(9):
        y = height * (line + rng.random()) / 9
        canvas.line([(0, y), (width, y)], scale_colour(table, rng.uniform(0.85, 1.1)), canvas.unit)


def _draw_status(screen: _Screen) -> None:
    rng = screen.canvas.rng
    screen.text(0.05, 0.008, f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}", screen.ink, scale=0.75)
    battery = screen.frame.part(0.87, 0.015, 0.95, 0.032)
    screen.canvas.rectangle(battery, screen.ink, width=0)


def _chat(screen: _Screen) -> None:
    """Bubbles left and right with avatars, pictures and voice messages; an input line below."""
    canvas, frame, rng = screen.canvas, screen.frame, screen.canvas.rng
    canvas.rectangle(frame.part(0, 0, 1, 0.1), screen.card, width=0)
    _chevron(screen, 0.06, 0.07, -1)
    screen.text(
        0.36, 0.052, invented_word(canvas, rng.randint(4, 8)).title(), screen.ink, scale=1.1, bold=True
    )
    faces = [canvas.vary(rng.choice(_ACCENTS), 30) for _ in range(2)]
    row = screen.letter * 1.35 / frame.height
    round_faces, y = rng.random() < 0.5, 0.12
    while y < 0.82:
        mine, kind = rng.random() < 0.5, rng.random()
        if kind < 0.15:
            screen.text(0.42, y, f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}", screen.faint, scale=0.7)
            y += row
        face = Frame(
            *frame.square(min(frame.width * 0.055, frame.height * 0.03), 0.93 if mine else 0.07, y + 0.03)
        )
        canvas.rounded(face.box, face.width * (0.5 if round_faces else 0.15), faces[mine])
        rows, wide = (rng.randint(1, 4), rng.uniform(0.25, 0.62)) if kind < 0.8 else (4, 0.34)
        tall = rows * row + 0.02
        left = 0.85 - wide if mine else 0.15
        if kind >= 0.8:
            _draw_photo(screen, frame.part(left, y, left + wide, y + tall))
        else:
            paint = screen.accent if mine else screen.card
            canvas.rounded(frame.part(left, y, left + wide, y + tall), 4 * canvas.unit, paint)
            tail = 0.85 if mine else 0.15
            tip = [frame.at(tail, y + 0.015), frame.at(tail + (0.02 if mine else -0.02), y + 0.026)]
            canvas.polygon([*tip, frame.at(tail, y + 0.037)], paint)
            for line in range(rows):
                end = left + wide * (rng.uniform(0.4, 0.9) if line == rows - 1 else 0.95)
                _write(
                    screen, left + 0.025, y + 0.01 + row * line, end, (250, 250, 250) if mine else screen.ink
                )
        y += tall + 0.025
    canvas.rectangle(frame.part(0, 0.92, 1, 1), screen.card, width=0)
    canvas.rounded(frame.part(0.14, 0.935, 0.76, 0.985), 4 * canvas.unit, screen.ground)
    for x in (0.07, 0.83, 0.93):
        canvas.disc(frame.at(x, 0.96), screen.letter * 0.55, screen.card, outline=screen.ink, width=1)


def _settings(screen: _Screen) -> None:
    """Rows with coloured icons, names, and switches or arrows."""
    canvas, frame, rng = screen.canvas, screen.frame, screen.canvas.rng
    screen.text(
        0.06, 0.06, invented_word(canvas, rng.randint(5, 9)).title(), screen.ink, scale=1.7, bold=True
    )
    rows = rng.randint(8, 12)
    step, round_icons = 0.84 / rows, rng.random() < 0.4
    for row in range(rows):
        y = 0.15 + step * row
        canvas.rectangle(frame.part(0.03, y, 0.97, y + step * 0.94), screen.card, width=0)
        icon = Frame(*frame.square(step * frame.height * 0.28, 0.11, y + step * 0.47))
        radius = icon.width * (0.5 if round_icons else 0.22)
        canvas.rounded(icon.box, radius, canvas.vary(rng.choice(_ACCENTS), 16))
        _write(screen, 0.21, y + step * 0.24, rng.uniform(0.45, 0.7), screen.ink)
        if rng.random() < 0.4:
            on = rng.random() < 0.5
            x, middle, radius = 0.86, y + step * 0.47, step * frame.height * 0.2
            centre = frame.at(x, middle)
            pill = (
                centre[0] - radius * 1.8,
                centre[1] - radius,
                centre[0] + radius * 1.8,
                centre[1] + radius,
            )
            canvas.rounded(pill, radius, screen.accent if on else screen.faint)
            knob = (centre[0] + radius * (0.8 if on else -0.8), centre[1])
            canvas.disc(knob, radius * 0.85, (255, 255, 255), width=0)
        else:
            _chevron(screen, 0.92, y + step * 0.47, 1)


def _map(screen: _Screen) -> None:
    """Streets at an angle, a park, a river, a route and its pins, a search field."""
    canvas, frame, rng = screen.canvas, screen.frame, screen.canvas.rng
    land = (44, 50, 58) if screen.dark else canvas.vary((240, 236, 226), 5)
    canvas.rectangle(frame.box, land, width=0)
    park, water = ((40, 70, 52), (36, 60, 100)) if screen.dark else ((196, 226, 176), (160, 204, 240))
    for _ in range(rng.randint(1, 3)):
        x, y = rng.uniform(0, 0.7), rng.uniform(0.1, 0.8)
        corners = [(x, y), (x + rng.uniform(0.15, 0.4), y + 0.03), (x + 0.3, y + rng.uniform(0.08, 0.2))]
        canvas.polygon([frame.at(*corner) for corner in (*corners, (x - 0.03, y + 0.12))], park)
    if rng.random() < 0.6:
        banks = [frame.at(share, rng.uniform(0.2, 0.9)) for share in (0, 0.3, 0.7, 1)]
        canvas.line(bezier(banks), water, rng.uniform(8, 18) * canvas.unit)
    street = (90, 96, 106) if screen.dark else (255, 255, 255)
    slant = rng.uniform(-0.25, 0.25)
    for index in range(11):
        wide = rng.choice((1.5, 1.5, 2.5, 4)) * canvas.unit
        share = -0.1 + 0.12 * index + rng.uniform(-0.03, 0.03)
        paint = (250, 206, 110) if wide > 3 * canvas.unit else street
        canvas.line([frame.at(0, share), frame.at(1, share + slant)], paint, wide)
        canvas.line([frame.at(share + slant, 0), frame.at(share - slant, 1)], paint, wide)
    stops = [(rng.uniform(0.1, 0.9), 0.2 + 0.15 * stop) for stop in range(5)]
    canvas.line([frame.at(*stop) for stop in stops], (50, 120, 245), 3 * canvas.unit)
    for stop, paint in ((stops[0], (40, 160, 80)), (stops[-1], (226, 50, 44))):
        x, y = frame.at(*stop)
        reach = 6 * canvas.unit
        canvas.polygon([(x - reach, y - reach * 1.6), (x + reach, y - reach * 1.6), (x, y)], paint)
        canvas.disc((x, y - reach * 2), reach, paint, outline=(255, 255, 255), width=1)
    for _ in range(5):
        word = invented_word(canvas, rng.randint(4, 8)).title()
        screen.text(rng.uniform(0.05, 0.7), rng.uniform(0.2, 0.85), word, screen.ink, scale=0.7)
    canvas.rounded(frame.part(0.05, 0.06, 0.95, 0.12), 4 * canvas.unit, screen.card)
    _write(screen, 0.12, 0.072, 0.7, screen.faint)
    canvas.rectangle(frame.part(0, 0.88, 1, 1), screen.card, width=0)
    _write(screen, 0.06, 0.9, 0.6, screen.ink)
    canvas.rounded(frame.part(0.7, 0.91, 0.94, 0.97), 4 * canvas.unit, (50, 120, 245))


def _home(screen: _Screen) -> None:
    """A grid of icons with names on a coloured wallpaper."""
    canvas, frame, rng = screen.canvas, screen.frame, screen.canvas.rng
    upper, lower = (canvas.vary(rng.choice(_ACCENTS), 40) for _ in range(2))
    for band in range(24):
        red, green, blue = (round(a + (b - a) * band / 23) for a, b in zip(upper, lower, strict=True))
        paint = scale_colour((red, green, blue), 0.7)
        canvas.rectangle(frame.part(0, band / 24, 1, (band + 1) / 24), paint, width=0)
    rows = rng.randint(4, 6)
    for row in range(rows):
        for column in range(4):
            x, y = 0.14 + 0.24 * column, 0.13 + 0.82 * row / rows
            icon = Frame(*frame.square(min(frame.width * 0.08, frame.height * 0.05), x, y))
            canvas.rounded(icon.box, icon.width * 0.22, canvas.vary(rng.choice(_ACCENTS), 40))
            mark = canvas.vary((245, 245, 245), 10)
            if rng.random() < 0.5:
                canvas.disc(icon.centre, icon.width * 0.25, mark, width=0)
            else:
                canvas.polygon([icon.at(0.25, 0.75), icon.at(0.5, 0.22), icon.at(0.75, 0.75)], mark)
            name = invented_word(canvas, rng.randint(3, 6)).title()
            screen.text(x - 0.07, y + 0.055, name, (250, 250, 250), scale=0.6)


def _write(screen: _Screen, left: float, y: float, right: float, ink: Colour) -> None:
    """One line of invented words between two fractions of the screen's width."""
    letters = max(2, int((right - left) * screen.frame.width / screen.letter / 0.52 + 1e-6))
    text = ""
    while len(text) < letters - 2:
        text += invented_word(screen.canvas, screen.canvas.rng.randint(2, 7)) + " "
    screen.text(left, y, text[:letters].strip(), ink)


def _draw_photo(screen: _Screen, box: Box) -> None:
    """A small landscape that somebody sent."""
    canvas, picture = screen.canvas, Frame(*box)
    canvas.rectangle(box, canvas.vary((130, 180, 230), 20), width=0)
    canvas.rectangle(picture.part(0, 0.6, 1, 1), canvas.vary((110, 150, 80), 20), width=0)
    peak = [picture.at(0.1, 0.6), picture.at(canvas.rng.uniform(0.3, 0.6), 0.2), picture.at(0.9, 0.6)]
    canvas.polygon(peak, canvas.vary((110, 110, 130), 20))


def _chevron(screen: _Screen, x: float, y: float, side: int) -> None:
    middle, reach = screen.frame.at(x, y), screen.letter * 0.35
    tip = (middle[0] + side * reach * 0.5, middle[1])
    ends = [(middle[0] - side * reach * 0.5, middle[1] + turn * reach) for turn in (-1, 1)]
    screen.canvas.line([ends[0], tip, ends[1]], screen.faint, 1.4 * screen.canvas.unit)


_SCREENS: Final[tuple[Callable[[_Screen], None], ...]] = (_chat, _settings, _map, _home)

"""What was said instead of what is true, per attribute and among categories. Pure.

Within one photo and attribute, what both sides count is right. Of what is left over, each true value is
paired with the said value most like it; what finds no partner is missing, or invented.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from stage_a_pipeline.evaluation.scores import Reading
from stage_a_pipeline.summary_content import attribute_order

CATEGORIES: Final = "类别"
"""The confusion among categories, beside those of attributes."""

Cell = tuple[str | None, str | None]
"""A true and a said value. None is said of a missing one, and true of an invented one."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each said value stood for each true one; equal values are the right answers."""

    name: str
    cells: Mapping[Cell, int]

    @property
    def wrong(self) -> dict[Cell, int]:
        """The cells of different values, the most frequent first."""
        cells = {cell: count for cell, count in self.cells.items() if cell[0] != cell[1]}
        return dict(sorted(cells.items(), key=lambda item: (-item[1], _sort_key(item[0]))))

    @property
    def right(self) -> int:
        """How many values were said as they are."""
        return sum(count for (true, said), count in self.cells.items() if true == said)


def confuse(readings: Iterable[Reading]) -> list[Confusion]:
    """The confusion among categories, then that of each attribute in the vocabulary's order."""
    cells: dict[str, Counter[Cell]] = defaultdict(Counter)
    for reading in readings:
        for name, (true, said) in _sides(reading).items():
            cells[name].update(pair_values(true, said))
    names = [CATEGORIES, *attribute_order(name for name in cells if name != CATEGORIES)]
    return [Confusion(name, dict(cells[name])) for name in names if cells[name]]


def pair_values(true: Counter[str], said: Counter[str]) -> Counter[Cell]:
    """How the said values of one photo and attribute stand for the true ones."""
    pairs: Counter[Cell] = Counter({(value, value): count for value, count in (true & said).items()})
    left, spare = true - said, said - true
    # The most alike first, then by the values themselves: the order must not depend on anything else.
    for one, other in sorted(((a, b) for a in left for b in spare), key=_unlikeness):
        if count := min(left[one], spare[other]):
            pairs[one, other] += count
            left[one] -= count
            spare[other] -= count
    pairs.update({(value, None): count for value, count in left.items() if count})
    pairs.update({(None, value): count for value, count in spare.items() if count})
    return pairs


def _sides(reading: Reading) -> dict[str, tuple[Counter[str], Counter[str]]]:
    sides: dict[str, tuple[Counter[str], Counter[str]]] = defaultdict(lambda: (Counter(), Counter()))
    for place, content in enumerate((reading.true, reading.said)):
        for (name, value), count in content.values.items():
            sides[name][place][value] = count
        sides[CATEGORIES][place].update(content.categories)
    return sides


def _unlikeness(pair: tuple[str, str]) -> tuple[float, str, str]:
    return -SequenceMatcher(None, *pair).ratio(), *pair


def _sort_key(cell: Cell) -> tuple[str, str]:
    return cell[0] or "", cell[1] or ""

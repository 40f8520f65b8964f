"""Round numbers for the axes of pictures, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence


def round_step(span: float, most: int) -> float:
    """The least of 1, 2 or 5 times a power of ten of which no more than `most` fit into `span`."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    # A quotient that is 2 but for its rounding is 2.
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them; of one number alone, that number."""
    if low == high:
        return [low]
    step = round_step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def written(ticks: Sequence[float]) -> list[str]:
    """The numbers, all with as many decimals as the one that needs most."""
    decimals = max((len(f"{tick:.10f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
    return [f"{tick:,.{decimals}f}" for tick in ticks]

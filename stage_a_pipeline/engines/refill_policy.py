"""Policy of refilled batches per kind of device, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a decoding step computes: its first rows, over the first cells of their slots.

    `draw`: some row samples; `constrained`: some row may not choose every token.
    """

    rows: int
    window: int
    draw: bool = False
    constrained: bool = False


@dataclass(frozen=True, slots=True)
class RefillPolicy:
    """How newcomers are admitted, and how steps are shaped.

    Newcomers are prefilled `lump` at a time. Steps are computed for multiples of `row_step` rows and of
    `window_step` cells, so that few shapes occur; slots grow by `growth` cells, and have room for `answer`
    tokens behind every prompt that enters. The host may be `behind`
    the device by so many steps when it looks for answers that have ended. With `capture`, a step's shape
    is recorded when it occurs again.
    """

    lump: int
    row_step: int
    window_step: int
    growth: int
    answer: int
    behind: int
    capture: bool

    def shape(self, rows: int, cells: int, *, places: int, draw: bool, constrained: bool) -> StepShape:
        """The shape of a step for so many rows, of which the longest needs so many cells."""
        return StepShape(
            rows=min(places, _round_up(rows, self.row_step)),
            window=_round_up(cells, self.window_step),
            draw=draw,
            constrained=constrained,
        )


CPU: Final = RefillPolicy(lump=1, row_step=1, window_step=1, growth=64, answer=128, behind=0, capture=False)
"""A row costs what it computes: nobody waits, and nothing is rounded up."""

CUDA: Final = RefillPolicy(
    lump=4, row_step=8, window_step=256, growth=1024, answer=256, behind=1, capture=True
)
"""Launching a call costs more than a row or a cell: calls are shared, and recorded in few shapes. Answers
that have ended are noticed one step late, while the device works on the next one."""


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step

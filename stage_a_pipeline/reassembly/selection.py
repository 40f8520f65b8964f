"""Which of a scan's positions are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError

Rows = NDArray[np.bool_]
"""For each position whether it counts."""


@dataclass(frozen=True, slots=True)
class Selection:
    """`subsample` positions are drawn by `seed`, of which the first `groups` are kept; None for all."""

    subsample: int | None = None
    groups: int | None = None
    seed: int = 0

    @property
    def asked(self) -> bool:
        """Whether anything is to be left out."""
        return self.subsample is not None or self.groups is not None

    def rows(self, count: int, *, source: str) -> Rows:
        """Which of `count` positions are chosen; they keep their order.

        ReassemblyError, naming the flag and the `source` of the positions, where there are fewer.
        """
        left = count
        for flag, wanted in (("--n-test-subsample", self.subsample), ("--n-test-groups", self.groups)):
            if wanted is not None and not 1 <= wanted <= left:
                raise ReassemblyError(
                    f"{flag} {wanted}: {source} has {left} positions to choose from; ask for 1 to {left}"
                )
            left = left if wanted is None else wanted
        chosen = np.arange(count)
        if self.subsample is not None:
            chosen = np.sort(np.random.default_rng(self.seed).choice(count, self.subsample, replace=False))
        rows = np.zeros(count, np.bool_)
        rows[chosen[: self.groups]] = True
        return rows


def chosen_rows(batches: Iterable[NDArray[Any]], rows: Rows) -> Iterator[NDArray[Any]]:
    """Of batches that follow each other, the chosen rows, batch by batch; empty ones are left out."""
    first = 0
    for batch in batches:
        kept = rows[first : first + len(batch)]
        first += len(batch)
        if kept.all():
            yield batch
        elif kept.any():
            yield batch[kept]


def regrouped(batches: Iterable[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """The same rows in batches of `size`, the last of what is left: some models take no other number."""
    waiting: NDArray[Any] | None = None
    for batch in batches:
        rows = batch if waiting is None else np.concatenate([waiting, batch])
        whole = len(rows) - len(rows) % size
        for first in range(0, whole, size):
            yield rows[first : first + size]
        waiting = rows[whole:] if whole < len(rows) else None
    if waiting is not None:
        yield waiting

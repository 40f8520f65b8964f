"""Shares with 95% intervals from resampled clusters: tickets or photos of one group are not independent.

docs/stage-b-evaluation.md has the formulas, and what such an interval cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

LEAST_SAMPLES: Final = 100
"""With fewer, the ends of an interval would be single samples."""
_ENDS: Final = (2.5, 97.5)
_CELLS: Final = 1 << 22
"""So many counts stand in memory at once."""
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share, or a difference of two, and the ends of its interval."""

    value: float
    low: float
    high: float


class Resampled:
    """Sums of columns, and the same sums over resamples of whole clusters.

    The draws depend on the number of clusters and the seed alone, and columns of one call share them: what
    is told of one column does not change with the others. ValueError for fewer samples than LEAST_SAMPLES.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[float]], clusters: Sequence[str], *, samples: int, seed: int
    ) -> None:
        if samples < LEAST_SAMPLES:
            raise ValueError(f"an interval needs at least {LEAST_SAMPLES} samples, not {samples}")
        names, places = np.unique(np.array(clusters, dtype=object), return_inverse=True)
        self.clusters: Final = len(names)
        sums = {
            name: np.bincount(places, weights=np.asarray(values, dtype=np.float64), minlength=len(names))
            for name, values in columns.items()
        }
        drawn = _draw_sums(np.column_stack(list(sums.values())), samples, np.random.default_rng(seed))
        self._totals = {name: float(values.sum()) for name, values in sums.items()}
        self._drawn = dict(zip(sums, drawn.T, strict=True))

    def share(self, part: str, whole: str) -> Estimate | None:
        """The sum of one column over that of another; None where there is nothing to divide by."""
        return self._estimate(self._totals[part], self._drawn[part], whole)

    def difference(self, before: str, after: str, whole: str) -> Estimate | None:
        """The share of `after` less that of `before`, over the same resamples; None likewise."""
        return self._estimate(
            self._totals[after] - self._totals[before], self._drawn[after] - self._drawn[before], whole
        )

    def _estimate(self, part: float, drawn: _Floats, whole: str) -> Estimate | None:
        if not self._totals[whole]:
            return None
        wholes = self._drawn[whole]
        has_any = wholes > 0
        low, high = np.percentile(drawn[has_any] / wholes[has_any], _ENDS)
        return Estimate(part / self._totals[whole], float(low), float(high))


def _draw_sums(rows: _Floats, samples: int, generator: np.random.Generator) -> _Floats:
    """The sums of `samples` times as many rows as there are, drawn with replacement."""
    count = len(rows)
    sums = np.zeros((samples, rows.shape[1]))
    if not count:
        return sums
    step = max(1, _CELLS // count)
    for first in range(0, samples, step):
        size = min(step, samples - first)
        picked = generator.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(picked.ravel(), minlength=size * count).reshape(size, count)
        sums[first : first + size] = times @ rows
    return sums

"""Static batches on the refill engine's own cache: what scheduling is worth, the cache being the same.

`generate` copies its cache at every step: against it alone, a better cache would be sold as better
scheduling.
"""

from __future__ import annotations

from stage_a_pipeline.engines.refill_batch import RefillBatch, Row


class StaticSlotBatch(RefillBatch):
    """Rows that have ended go on being computed until all have; then the next ones are taken."""

    @property
    def room(self) -> int:
        """See RunningBatch. None while somebody is under way."""
        return 0 if self._rows else super().room

    def _leaving(self) -> list[Row]:
        ended = super()._leaving()
        return ended if len(ended) == len(self._rows) else []

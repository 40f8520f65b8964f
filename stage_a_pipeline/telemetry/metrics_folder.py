"""A folder of metrics files as one: what all runs that write there tell, and what of it is still true."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

FILES: Final = "stage_a_*.prom"
STALE_SECONDS: Final = 30.0
"""A run writes its file every five seconds, whatever its engine does: one that is older has no writer."""

RUNNING: Final = "stage_a_running"
UPDATED: Final = "stage_a_updated_timestamp_seconds"
MOMENTARY: Final = frozenset({"stage_a_photos_per_second", "stage_a_queue_photos", "stage_a_eta_seconds"})
"""Gauges that are true of a run under way alone."""


class MetricsFolder(Collector):
    """The metrics of all files of a folder.

    Of a run that was killed, its counts are left: it is no longer running, and has no queue, rate or ETA.
    A file that cannot be read is counted, and left out.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    @property
    def mark(self) -> str:
        """Tells the metrics of this folder from those of others, without telling its path."""
        return hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:16]

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        families: dict[str, Metric] = {}
        unreadable = 0
        for path in sorted(self._folder.glob(FILES)):
            try:
                found = list(text_string_to_metric_families(path.read_text("utf-8")))
            except (OSError, ValueError):
                unreadable += 1
                continue
            for family in self._still_true(found):
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        yield InfoMetricFamily(
            "stage_a_metrics_folder", "Which folder's files these are.", value={"mark": self.mark}
        )
        yield GaugeMetricFamily(
            "stage_a_metrics_files_unreadable", "Files left out since they cannot be read.", value=unreadable
        )
        yield from families.values()

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry()).decode()

    def registry(self) -> CollectorRegistry:
        """A registry of this alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def _still_true(self, families: list[Metric]) -> Iterable[Metric]:
        updated = [sample.value for family in families if family.name == UPDATED for sample in family.samples]
        if updated and self._clock() - max(updated) <= STALE_SECONDS:
            return families
        for family in families:
            if family.name == RUNNING:
                family.samples = [sample._replace(value=0.0) for sample in family.samples]
        return [family for family in families if family.name not in MOMENTARY]

"""A shard's counts as a Prometheus text file, for node_exporter's textfile collector."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stage_a_pipeline.inference.metrics import Progress
from stage_a_pipeline.storage import child_path

_EVERY_SECONDS: Final = 5.0


class PrometheusFile:
    """A progress listener that rewrites `<folder>/stage_a_<device>.prom` every few seconds, and at the end.

    A file that cannot be written is told once, and does not stop the run.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        warning: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = child_path(folder, f"stage_a_{device}.prom")
        self._device = device
        self._warning: Callable[[str], None] | None = warning
        self._clock = clock
        self._write_at = clock()

    def __call__(self, progress: Progress) -> None:
        """See ProgressListener."""
        if progress.done < progress.total and self._clock() < self._write_at:
            return
        self._write_at = self._clock() + _EVERY_SECONDS
        registry = CollectorRegistry()
        registry.register(_Counts(self._device, progress))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), registry)
        except OSError as error:
            if self._warning is not None:
                self._warning(
                    f"{self._path} cannot be written: {error.strerror}; the run goes on without it "
                    "(output.prometheus_dir)"
                )
            self._warning = None


class _Counts(Collector):
    """The counts of one moment."""

    def __init__(self, device: str, progress: Progress) -> None:
        self._device = device
        self._progress = progress

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        progress, metrics = self._progress, self._progress.metrics
        photos = {"inferred": metrics.inferred, "reused": metrics.reused, "rejected": metrics.rejected}
        tokens = {
            "prompt": metrics.prompt_tokens,
            "generated": metrics.generated_tokens,
            "padding": metrics.padding_tokens,
        }
        seconds = {
            "device": metrics.device_seconds,
            "waiting": metrics.waiting_seconds,
            "decoding": metrics.decode_seconds,
        }
        retries = {"unusable": metrics.retried}
        yield self._counter("photos", "Photos so far, by what became of them.", "outcome", photos)
        yield self._counter("tokens", "Tokens so far, by what they are.", "kind", tokens)
        yield self._counter("seconds", "Seconds so far, by what they were spent on.", "activity", seconds)
        yield self._counter("retries", "Answers that were asked for once more.", "cause", retries)
        gauges = {
            "photos_planned": ("Photos of this run.", progress.total),
            "photos_done": ("Photos of this run that have ended.", progress.done),
            "photos_per_second": ("Photos per second, reused ones left out.", progress.rate),
            "batch_fill_ratio": ("Share of the batches' places that held a photo.", metrics.batch_fill),
            "padding_ratio": ("Share of computed tokens that were padding.", metrics.padding_share),
            "eta_seconds": ("Seconds until the run is done, at the present rate.", progress.eta_seconds),
            "updated_timestamp_seconds": ("When this was written.", time.time()),
        }
        for name, (description, value) in gauges.items():
            if value is not None:
                yield self._gauge(name, description, value)

    def _counter(self, name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
        family = CounterMetricFamily(f"stage_a_{name}", description, labels=["device", label])
        for value, count in values.items():
            family.add_metric([self._device, value], count)
        return family

    def _gauge(self, name: str, description: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"stage_a_{name}", description, labels=["device"])
        family.add_metric([self._device], value)
        return family

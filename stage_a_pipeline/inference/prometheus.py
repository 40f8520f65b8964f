"""A shard's counts as a Prometheus text file, the one source of every way in which metrics are shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.inference.shard import ShardTask
from stage_a_pipeline.storage import child_path
from stage_a_pipeline.telemetry.endpoint import MetricsEndpoint

EVERY_SECONDS: Final = 5.0


@contextmanager
def shown_metrics(audience: Audience, shard: ShardTask) -> Iterator[Audience]:
    """The audience, and the metrics file and endpoint where the settings ask for them.

    The shard's missions must be claimed: its file is written by nobody else then.
    """
    folder, telemetry = shard.settings.metrics_dir, shard.settings.telemetry
    if folder is None:
        yield audience
        return
    endpoint = (
        nullcontext()
        if telemetry.prometheus_port is None
        else MetricsEndpoint(folder, telemetry.prometheus_host, telemetry.prometheus_port, audience.warning)
    )
    with endpoint as served:
        offer = (lambda: None) if served is None else served.offer
        file = PrometheusFile(
            folder, shard.name, shard.missions, audience.warning, every=offer, seconds=EVERY_SECONDS
        )
        file(Progress(len(shard.refs), ShardMetrics()))
        with file:
            yield replace(audience, progress=_both(file, audience.progress))


def _both(
    file: Callable[[Progress], None], told: Callable[[Progress], None] | None
) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        file(progress)
        if told is not None:
            told(progress)

    return tell


class PrometheusFile:
    """Rewrites `<folder>/stage_a_<mission>_<device>.prom` every few seconds until the block is left.

    A progress listener, which may be called from any thread and costs nothing. Of several missions, the first
    names the file. A file that cannot be written is told once, and does not stop the run. `every` is called
    as often as the file is written.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        missions: list[str],
        warning: Callable[[str], None],
        *,
        every: Callable[[], None] = lambda: None,
        seconds: float = EVERY_SECONDS,
    ) -> None:
        self._path = child_path(folder, f"stage_a_{missions[0]}_{device}.prom")
        self._labels = {"device": device, "mission": ", ".join(missions)}
        self._warning: Callable[[str], None] | None = warning
        self._every = every
        self._seconds = seconds
        self._latest = Progress(0, ShardMetrics())
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._keep_writing, name="metrics", daemon=True)

    def __call__(self, progress: Progress) -> None:
        """See ProgressListener."""
        self._latest = progress

    def __enter__(self) -> PrometheusFile:
        self._write(is_running=True)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._beat.join()
        self._write(is_running=False)

    def _keep_writing(self) -> None:
        """A file with a fresh date says that its run is alive, however long a photo takes."""
        while not self._over.wait(self._seconds):
            self._write(is_running=True)
            self._every()

    def _write(self, *, is_running: bool) -> None:
        registry = CollectorRegistry()
        registry.register(_Counts(self._labels, self._latest, is_running=is_running))
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
    """The counts of one moment; where no run is under way, nothing that only a run has."""

    def __init__(self, labels: Mapping[str, str], progress: Progress, *, is_running: bool) -> None:
        self._labels = labels
        self._progress = progress
        self._is_running = is_running

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        yield from self._counters(self._progress.metrics)
        yield from self._gauges(self._progress)

    def _counters(self, metrics: ShardMetrics) -> Iterator[Metric]:
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
        places = {"filled": metrics.filled_places, "empty": metrics.places - metrics.filled_places}
        yield self._counter("photos", "Photos so far, by what became of them.", ["outcome"], photos)
        yield self._counter("rejects", "Rejected photos, by what for.", ["stage", "reason"], metrics.rejects)
        yield self._counter("tokens", "Tokens so far, by what they are.", ["kind"], tokens)
        yield self._counter("seconds", "Seconds so far, by what they were spent on.", ["activity"], seconds)
        yield self._counter(
            "places", "Places of all steps so far, with a photo or without.", ["state"], places
        )
        yield self._counter("steps", "Steps of the engine so far.", [], {"": metrics.steps})
        yield self._counter(
            "retries", "Answers that were asked for once more.", ["cause"], {"unusable": metrics.retried}
        )

    def _gauges(self, progress: Progress) -> Iterator[Metric]:
        metrics = progress.metrics
        gauges = {
            "running": ("Whether a run is under way.", int(self._is_running)),
            "photos_planned": ("Photos of this run.", progress.total),
            "photos_done": ("Photos of this run that have ended.", progress.done),
            "batch_size": ("Photos that are answered at once, at most.", metrics.batch_size),
            "batch_fill_ratio": ("Share of the batches' places that held a photo.", metrics.batch_fill),
            "padding_ratio": ("Share of computed tokens that were padding.", metrics.padding_share),
            "photos_per_second": (
                "Photos per second of this run, reused ones left out; 0 when it is over.",
                progress.rate if self._is_running else 0.0,
            ),
            "eta_seconds": (
                "Seconds until the run is done, at the rate so far; only while it is under way.",
                progress.eta_seconds if self._is_running else None,
            ),
            "updated_timestamp_seconds": ("When this was written.", time.time()),
        }
        for name, (description, value) in gauges.items():
            if value is not None:
                yield self._gauge(name, description, [], {"": value})
        yield self._gauge(
            "queue_photos",
            "Photos that have not ended, by how far they are.",
            ["state"],
            self._queued(progress),
        )

    def _queued(self, progress: Progress) -> Mapping[str, float]:
        if not self._is_running:
            return dict.fromkeys(("to_come", "ready", "under_way"), 0)
        queue = progress.queue
        return {"to_come": progress.to_come, "ready": queue.ready, "under_way": queue.under_way}

    def _counter(self, name: str, description: str, labels: list[str], values: Mapping[str, float]) -> Metric:
        return self._filled(CounterMetricFamily, name, description, labels, values)

    def _gauge(self, name: str, description: str, labels: list[str], values: Mapping[str, float]) -> Metric:
        return self._filled(GaugeMetricFamily, name, description, labels, values)

    def _filled(
        self,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        description: str,
        labels: list[str],
        values: Mapping[str, float],
    ) -> Metric:
        """The values of several labels are written as one, `<stage>/<reason>`."""
        family = kind(f"stage_a_{name}", description, labels=[*self._labels, *labels])
        for key, value in values.items():
            own = key.split("/", len(labels) - 1) if labels else []
            family.add_metric([*self._labels.values(), *own], value)
        return family

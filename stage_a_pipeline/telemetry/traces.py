"""A trace of one run, told to an OpenTelemetry collector by one process of the run.

Nothing of OpenTelemetry is imported before somebody asks for a trace. A collector that is slow or down costs
the run no more than some seconds at its end: spans are sent from a thread, and dropped where that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings_telemetry import TelemetrySettings
from stage_a_pipeline.telemetry.spans import NO_SPAN, Attributes, Span


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a trace comes from: a run by its id, or with `traceparent`, a span of another process of it."""

    run_id: str
    traceparent: str | None = None


@contextmanager
def traced(
    settings: TelemetrySettings,
    origin: Origin,
    name: str,
    attributes: Attributes,
    warning: Callable[[str], None],
) -> Iterator[Span]:
    """The first span of this process, NO_SPAN where the settings ask for none; sent before the block is left.

    All processes of a run make one trace, whose id is the run's where that is a UUID. `warning` is told once
    that the collector takes nothing. Raises ConfigurationError without the extra `otel`.
    """
    if settings.otlp_endpoint is None:
        yield NO_SPAN
        return
    try:
        from stage_a_pipeline.telemetry.otlp import open_tracer
    except ImportError as error:
        raise ConfigurationError(
            f"telemetry.otlp_endpoint needs OpenTelemetry, which is not installed ({error.name}): "
            "pip install '.[otel]' in the project's folder, or unset it"
        ) from None
    with (
        open_tracer(settings.otlp_endpoint, origin.run_id, warning) as tracer,
        tracer.begin(name, attributes, traceparent=origin.traceparent) as span,
    ):
        yield span

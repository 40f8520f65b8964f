"""Spans by OpenTelemetry's SDK, sent as OTLP over HTTP. Imported only where a trace is asked for."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stage_a_pipeline import __version__
from stage_a_pipeline.telemetry.spans import Attributes, Span

SERVICE: Final = "stage-a"
_TRACEPARENT: Final = "traceparent"
_SCOPE: Final = "stage_a_pipeline"
_SEND_SECONDS: Final = 5.0
"""A collector that has not taken a batch after that, second tries included, is taken for one that is down."""

_PAUSE_SECONDS: Final = 60.0
_EXPORTER_LOG: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class Tracer:
    """Begins spans that have no parent in this process."""

    def __init__(self, tracer: api.Tracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, attributes: Attributes, *, traceparent: str | None) -> Span:
        """A span below that of another process, or the first of its trace."""
        above = Context()
        if traceparent is not None:
            above = TraceContextTextMapPropagator().extract({_TRACEPARENT: traceparent}, above)
        return _begin(self._tracer, name, attributes, above)


@contextmanager
def open_tracer(endpoint: str, run_id: str, warning: Callable[[str], None]) -> Iterator[Tracer]:
    """A tracer of this process; leaving the block sends what is left, for some seconds at most."""
    # What it says at every failure is told once, by `warning`.
    logging.getLogger(_EXPORTER_LOG).setLevel(logging.CRITICAL + 1)
    sender = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS)
    provider = TracerProvider(resource=_resource(), id_generator=_RunsTrace(run_id), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Patient(sender, endpoint, warning)))
    try:
        yield Tracer(provider.get_tracer(_SCOPE, __version__))
    finally:
        provider.shutdown()


def _resource() -> Resource:
    """What is said of this process; the variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    own: dict[str, str | int] = {
        "service.name": SERVICE,
        "service.version": __version__,
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


class _RunsTrace(RandomIdGenerator):
    """Gives all processes of a run the same trace id: the run's own where it ends in a UUID."""

    def __init__(self, run_id: str) -> None:
        try:
            self._trace_id = uuid.UUID(run_id[-36:]).int
        except ValueError:
            self._trace_id = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16], "big")

    def generate_trace_id(self) -> int:
        return self._trace_id


class _Patient(SpanExporter):
    """Sends to a collector; one that takes nothing is told of once, and left alone for a minute."""

    def __init__(self, sender: SpanExporter, endpoint: str, warning: Callable[[str], None]) -> None:
        self._sender = sender
        self._endpoint = endpoint
        self._warning: Callable[[str], None] | None = warning
        self._paused_until = -_PAUSE_SECONDS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() < self._paused_until:
            return SpanExportResult.FAILURE
        result = self._sender.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            if self._warning is not None:
                self._warning(
                    f"the OpenTelemetry collector at {self._endpoint} takes no spans; the run goes on, and "
                    "its trace has gaps (telemetry.otlp_endpoint)"
                )
            self._warning = None
        return result

    def shutdown(self) -> None:
        self._sender.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._sender.force_flush(timeout_millis)


class _RecordedSpan:
    """A span of OpenTelemetry's SDK."""

    def __init__(self, tracer: api.Tracer, span: api.Span) -> None:
        self._tracer = tracer
        self._span = span
        self._here = api.set_span_in_context(span, Context())

    @property
    def is_recorded(self) -> bool:
        return self._span.is_recording()

    @property
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, self._here)
        return carrier.get(_TRACEPARENT)

    def child(self, name: str, attributes: Attributes | None = None) -> Span:
        return _begin(self._tracer, name, attributes or {}, self._here)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(api.StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An exception's message may quote what a model said; its class says enough here.
        if kind is not None and issubclass(kind, Exception):
            self.fail(kind.__name__)
        self.end()


def _begin(tracer: api.Tracer, name: str, attributes: Attributes, above: Context) -> Span:
    span = tracer.start_span(
        name,
        context=above,
        attributes=dict(attributes),
        record_exception=False,
        set_status_on_exception=False,
    )
    return _RecordedSpan(tracer, span)

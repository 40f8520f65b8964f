"""A collector on loopback: takes OTLP over HTTP, and decodes it with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as it was sent, with what is said of its process."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    is_failed: bool
    start: int
    end: int


@dataclass
class Collector:
    """Spans of all requests so far. `status` is what it answers, after `seconds`."""

    status: int = 200
    seconds: float = 0.0
    url: str = ""
    spans: list[Received] = field(default_factory=list)
    requests: int = 0

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> set[tuple[str, ...]]:
        """The names on the way down to each span."""
        by_id = {span.span_id: span for span in self.spans}

        def way(span: Received) -> tuple[str, ...]:
            above = by_id.get(span.parent)
            assert above is not None or not span.parent, f"the parent of {span.name} was never sent"
            return (*(way(above) if above else ()), span.name)

        return {way(span) for span in self.spans}


@contextmanager
def serving() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests += 1
            time.sleep(collector.seconds)
            if collector.status == 200 and self.path == "/v1/traces":
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                collector.spans += _decoded(plain)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        yield collector
        server.shutdown()


def _decoded(body: bytes) -> list[Received]:
    message = ExportTraceServiceRequest.FromString(body)
    return [
        Received(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _values(span.attributes),
            _values(resource.resource.attributes),
            span.status.code == 2,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        found[attribute.key] = (
            [item.string_value for item in value.values] if kind == "array_value" else value
        )
    return found

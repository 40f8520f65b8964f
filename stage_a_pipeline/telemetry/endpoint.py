"""The metrics of a folder over HTTP: whoever has the port serves what all processes write there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from stage_a_pipeline.telemetry.metrics_folder import MetricsFolder

DEFAULT_PORT: Final = 9464
"""That of OpenTelemetry's exporters for Prometheus."""

_PROBE_SECONDS: Final = 1.0
_PROBE_BYTES: Final = 1 << 20


class MetricsEndpoint:
    """Serves a folder's metrics as soon as the port is free; leaving the block gives the port back.

    Several devices of a run, or several runs, may name one port: one of them serves the files of all, and
    when it ends, another takes over at its next `offer`. A port that somebody else has is told once.
    """

    def __init__(self, folder: Path, host: str, port: int, warning: Callable[[str], None]) -> None:
        self._metrics = MetricsFolder(folder)
        self._host = host
        self._port = port
        self._warning: Callable[[str], None] | None = warning
        self._server: WSGIServer | None = None

    @property
    def is_serving(self) -> bool:
        """Whether this process has the port."""
        return self._server is not None

    def offer(self) -> None:
        """Take the port where nobody has it."""
        if self._server is not None:
            return
        try:
            self._server, _ = start_http_server(self._port, self._host, self._metrics.registry())
        except OSError as error:
            if self._warning is not None and not self._is_served():
                self._warning(
                    f"metrics cannot be served on {self._host}:{self._port}: {error.strerror}; the run goes "
                    "on without (telemetry.prometheus_port)"
                )
            self._warning = None

    def close(self) -> None:
        """Give the port back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> MetricsEndpoint:
        self.offer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_served(self) -> bool:
        """Whether who has the port serves the same folder."""
        url = f"http://{self._host}:{self._port}/metrics"
        try:
            # A proxy has nothing to do with a port of this machine.
            with build_opener(ProxyHandler({})).open(url, timeout=_PROBE_SECONDS) as answer:
                return self._metrics.mark.encode() in answer.read(_PROBE_BYTES)
        except (URLError, OSError, ValueError):
            return False

"""The settings of what is watched from outside while a run goes on: metrics and traces."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from stage_a_pipeline.settings_sections import Section


class TelemetrySettings(Section):
    """Metrics for Prometheus and traces for OpenTelemetry; off where nothing is set."""

    prometheus_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="Port on which a run serves the metrics of its folder over HTTP; unset serves none.",
    )
    prometheus_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of that port; it has no login: leave it at the loopback outside of containers.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector (OTLP over HTTP), such as "
        "`http://127.0.0.1:4318`, with the extra `otel`; unset traces nothing.",
    )
    photo_sample_ratio: float = Field(
        0.01, ge=0.0, le=1.0, description="Share of the photos that get spans of their own in a trace."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_a_url_without_secrets(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL such as http://127.0.0.1:4318")
        if parts.username is not None or parts.password is not None or parts.query:
            # Settings are written beside results, and shown to people.
            raise ValueError("must carry no secret; give it in the variable OTEL_EXPORTER_OTLP_HEADERS")
        return endpoint

"""`stage-a metrics`: what runs tell Prometheus, served or shown beside them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option

_OTHERS_SECONDS = 5.0


@click.command()
@click.option(
    "--dir", "folder", type=ANY_PATH, help="Folder of the metrics files; the settings' when left out."
)
@click.option("--host", help="Address to serve on; telemetry.prometheus_host when left out.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="telemetry.prometheus_port when left out, or 9464."
)
@click.option("--once", is_flag=True, help="Print the metrics as they are now, and end.")
@settings_option
@clear_errors
def metrics(
    folder: Path | None, host: str | None, port: int | None, once: bool, settings_file: Path | None
) -> None:
    """Serve the metrics of all runs that write to a folder, for Prometheus to scrape, until Ctrl-C.

    Beside runs that come and go, it is there when none is under way, and tells how the last ones ended.
    """
    from stage_a_pipeline.settings import load_settings
    from stage_a_pipeline.telemetry.endpoint import DEFAULT_PORT, MetricsEndpoint
    from stage_a_pipeline.telemetry.metrics_folder import MetricsFolder

    settings = load_settings(environ=os.environ, settings_file=settings_file)
    folder = folder or settings.metrics_dir or settings.output.work_dir / "metrics"
    if once:
        click.echo(MetricsFolder(folder).text(), nl=False)
        return
    told = settings.telemetry
    host, port = host or told.prometheus_host, port or told.prometheus_port or DEFAULT_PORT

    with MetricsEndpoint(folder, host, port, lambda sentence: click.echo(sentence, err=True)) as endpoint:
        state = "serving" if endpoint.is_serving else "waiting for the port to serve"
        click.echo(f"{state} the metrics of {folder} on http://{host}:{port}/metrics; Ctrl-C ends it")
        while not threading.Event().wait(_OTHERS_SECONDS):
            endpoint.offer()

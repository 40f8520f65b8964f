"""`stage-a report`: the HTML report of delivered missions.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option


@click.command()
@click.option("--mission", "missions", multiple=True, help="Mission name; all delivered ones when left out.")
@click.option("--output", "output_dir", type=ANY_PATH, help="Folder of the reports (report.output_dir).")
@click.option("--language", type=click.Choice(["zh", "en"]), help="Language in which pages open.")
@click.option("--mask/--no-mask", "mask_watermark", default=None, help="Paint watermarks over, or do not.")
@click.option("--thumbnails/--no-thumbnails", default=None, help="Show photos, or do not.")
@settings_option
@clear_errors
def report(missions: tuple[str, ...], settings_file: Path | None, **chosen: Any) -> None:
    """Write one folder of static HTML pages per delivered mission.

    Open its index.html from disk, or put the folder behind any web server. Nothing is asked of an engine.
    """
    from stage_a_pipeline.report.command import write_reports
    from stage_a_pipeline.settings import load_settings
    from stage_a_pipeline.terminal import print_place

    settings = load_settings(
        environ=os.environ,
        settings_file=settings_file,
        overrides={"report": {key: value for key, value in chosen.items() if value is not None}},
        overrides_source="command line",
    )
    for mission, written in write_reports(settings, missions):
        click.echo(f"{mission}: {written.groups} groups, {written.photos} photos")
        if written.photos_without_thumbnail:
            click.echo(f"  {written.photos_without_thumbnail} photos are gone or unreadable", err=True)
        print_place("report", written.index)

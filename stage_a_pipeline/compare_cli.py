"""`stage-a compare`: a thin command over the comparison of two runs.

Modules that it needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stage_a_pipeline.cli_options import ANY_PATH, ANY_PLACE, clear_errors, settings_option
from stage_a_pipeline.places import Place

if TYPE_CHECKING:
    from stage_a_pipeline.records import Group
    from stage_a_pipeline.run_comparison.comparison import RunComparison

_DIFFERS: Final = 3
"""1 is an error, 2 a wrong command line."""


@click.command("compare")
@click.argument("before", metavar="RUN_A", type=ANY_PLACE)
@click.argument("after", metavar="RUN_B", type=ANY_PLACE)
@click.option(
    "--mission", "missions", multiple=True, help="Mission name; all that both runs have when left out."
)
@click.option(
    "--list",
    "listed",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Changes of each kind to show, per mission.",
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the whole comparison to this file.")
@click.option(
    "--page", "page_folder", type=ANY_PATH, help="Write HTML pages to this folder: empty, new, or theirs."
)
@click.option("--photos", type=ANY_PLACE, help="Input root of the photos, for thumbnails on the pages.")
@click.option("--language", type=click.Choice(["zh", "en"]), help="Language in which pages open.")
@click.option(
    "--fail-on-change", is_flag=True, help=f"Exit with {_DIFFERS} when the runs delivered different things."
)
@settings_option
@clear_errors
def compare(
    before: Place,
    after: Place,
    missions: tuple[str, ...],
    listed: int,
    json_file: Path | None,
    page_folder: Path | None,
    fail_on_change: bool,
    **of_pages: Any,
) -> None:
    """Show what changed from RUN_A to RUN_B.

    A run is an output folder of the pipeline, or the JSONL of one mission; both may be URLs. Settings are
    read for pages alone, which look like those of the report.
    """
    if page_folder is None and of_pages["photos"] is not None:
        raise click.UsageError("--photos are for pages: give a folder for these as well (--page)")
    from stage_a_pipeline.compare_terminal import print_run_comparison
    from stage_a_pipeline.run_comparison.comparison import compare_runs
    from stage_a_pipeline.run_comparison.document import write_document
    from stage_a_pipeline.terminal import print_place

    comparison = compare_runs(before, after, missions=missions)
    # Before the files: what was found is seen even where it cannot be written.
    print_run_comparison(comparison, listed=listed)
    if json_file is not None:
        write_document(json_file, comparison)
        print_place("written", json_file)
    if page_folder is not None:
        print_place("page", _write_pages(page_folder, comparison, **of_pages))
    if fail_on_change and not comparison.is_same:
        sys.exit(_DIFFERS)


def _write_pages(
    folder: Path,
    comparison: RunComparison,
    *,
    photos: Place | None,
    language: str | None,
    settings_file: Path | None,
) -> Path:
    from stage_a_pipeline.discovery import discover_groups
    from stage_a_pipeline.missions import load_missions
    from stage_a_pipeline.photo_source import photo_source
    from stage_a_pipeline.report.comparison_page import ComparisonPhotos, write_comparison_pages
    from stage_a_pipeline.settings import load_settings

    settings = load_settings(
        environ=os.environ,
        settings_file=settings_file,
        overrides={
            "discovery": {"input_root": photos} if photos is not None else {},
            "report": {"language": language} if language is not None else {},
        },
        overrides_source="command line",
    )
    if photos is None:
        return write_comparison_pages(folder, comparison, settings.report)
    discovery, missions = settings.discovery, load_missions(settings.discovery.missions_file)

    def tree(mission: str) -> Sequence[Group]:
        links = discovery.allow_external_symlinks
        return discover_groups(photos, mission, missions=missions, allow_external_symlinks=links).groups

    source = ComparisonPhotos(photo_source(settings), tree)
    return write_comparison_pages(folder, comparison, settings.report, source)

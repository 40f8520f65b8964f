"""`stage-a compare`: a thin command over the comparison of two runs.

Modules that it needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from stage_a_pipeline.cli_options import ANY_PATH, ANY_PLACE, clear_errors
from stage_a_pipeline.places import Place

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
    "--fail-on-change", is_flag=True, help=f"Exit with {_DIFFERS} when the runs delivered different things."
)
@clear_errors
def compare(
    before: Place,
    after: Place,
    missions: tuple[str, ...],
    listed: int,
    json_file: Path | None,
    fail_on_change: bool,
) -> None:
    """Show what changed from RUN_A to RUN_B.

    A run is an output folder of the pipeline, or the JSONL of one mission; both may be URLs.
    """
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
    if fail_on_change and not comparison.is_same:
        sys.exit(_DIFFERS)

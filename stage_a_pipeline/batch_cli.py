"""`stage-a batch`: thin commands over batch files.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option

_MEBIBYTE = 1024 * 1024


@click.group()
def batch() -> None:
    """Questions as OpenAI batch files, and their results back."""


@batch.command("export")
@click.argument("file", type=ANY_PATH)
@click.option("--mission", "missions", multiple=True, required=True, help="Mission name; may be repeated.")
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Questions in one file.",
)
@click.option(
    "--max-mib", type=click.IntRange(min=1), default=190, show_default=True, help="Size of one file."
)
@click.option(
    "--photos", "photos_folder", type=ANY_PATH, help="Write photos here, and not into the questions."
)
@click.option("--photos-url", help="URL below which servers find what --photos wrote.")
@settings_option
@clear_errors
def batch_export(
    file: Path,
    missions: tuple[str, ...],
    max_requests: int,
    max_mib: int,
    photos_folder: Path | None,
    photos_url: str | None,
    settings_file: Path | None,
) -> None:
    """Write the questions of all photos that have no answer yet to FILE, its name with a number.

    For `vllm run-batch` and providers' batch queues. Needs engine `openai` in the settings.
    """
    if (photos_folder is None) != (photos_url is None):
        raise click.UsageError("--photos and --photos-url belong together")
    from stage_a_pipeline.batch_files.export import BatchLimits, PublishedPhotos, export_batch
    from stage_a_pipeline.inference.shard import mission_recipes
    from stage_a_pipeline.inference.together import sampled_groups
    from stage_a_pipeline.missions import load_missions
    from stage_a_pipeline.settings import load_settings

    settings = load_settings(environ=os.environ, settings_file=settings_file)
    known = load_missions(settings.discovery.missions_file)
    chosen = [known.require(name) for name in dict.fromkeys(missions)]
    groups = [group for mission in chosen for group in sampled_groups(mission, settings, known)]
    published = None
    if photos_folder is not None and photos_url is not None:
        published = PublishedPhotos(photos_folder, photos_url)
    exported = export_batch(
        groups,
        mission_recipes(chosen, settings),
        settings,
        file,
        limits=BatchLimits(max_requests, max_mib * _MEBIBYTE),
        warn=lambda sentence: click.echo(sentence, err=True),
        published=published,
    )
    for part in exported.files:
        click.echo(part)
    click.echo(
        f"{exported.asked} photos are asked ({exported.again} for the second time), {exported.answered} have "
        f"an answer, {exported.given_up} had no usable one twice, {exported.rejected} were left out"
    )


@batch.command("import")
@click.argument("results", type=ANY_PATH, nargs=-1, required=True)
@settings_option
@clear_errors
def batch_import(results: tuple[Path, ...], settings_file: Path | None) -> None:
    """Keep the answers in RESULTS, files or folders of `*.jsonl`, in any order and as often as they come.

    The next run finds them and asks for what is left. Exits with 1 when there was none.
    """
    from stage_a_pipeline.batch_files.results import files_of, import_batch
    from stage_a_pipeline.inference.shard import mission_recipes
    from stage_a_pipeline.missions import load_missions
    from stage_a_pipeline.settings import load_settings

    settings = load_settings(environ=os.environ, settings_file=settings_file)
    known = load_missions(settings.discovery.missions_file)
    imported = import_batch(
        files_of(results),
        mission_recipes(known.values(), settings),
        settings,
        warn=lambda sentence: click.echo(sentence, err=True),
    )
    for problem in imported.problems:
        click.echo(problem, err=True)
    if imported.lost > len(imported.problems):
        click.echo(f"and {imported.lost - len(imported.problems)} more", err=True)
    click.echo(
        f"{imported.answered} answers were kept, {imported.known} were known before; "
        f"{imported.unusable} were unusable, {imported.failed} failed, "
        f"{imported.foreign} belong to other settings"
    )
    sys.exit(0 if imported.answered or imported.known else 1)

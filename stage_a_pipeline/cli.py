"""`stage-a`: thin commands over the functions that the assets call.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from stage_a_pipeline import __version__
from stage_a_pipeline.batch_cli import batch
from stage_a_pipeline.bench_cli import bench
from stage_a_pipeline.cli_options import ANY_PATH, ANY_PLACE, clear_errors, settings_option
from stage_a_pipeline.compare_cli import compare
from stage_a_pipeline.export_cli import export
from stage_a_pipeline.grpo_cli import grpo
from stage_a_pipeline.metrics_cli import metrics
from stage_a_pipeline.places import Place
from stage_a_pipeline.reassembly_cli import compare_models, data_sets, reassemble
from stage_a_pipeline.report_cli import report


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Photos of base-station installations to one summary per photo and one JSONL per mission."""
    # A service manager's stop is that of Ctrl-C: what is finished is kept, and no child is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@main.command()
@click.option("--mission", "missions", multiple=True, required=True, help="Mission name; may be repeated.")
@settings_option
@click.option("--verbose", is_flag=True, help="Show Dagster's log instead of a progress bar.")
@clear_errors
def materialize(missions: tuple[str, ...], settings_file: Path | None, verbose: bool) -> None:
    """Materialise every asset of the missions in this process.

    Exits with 1 when a mission failed; the others are published all the same.
    """
    from stage_a_pipeline.terminal import materialise_with_bar

    failed = materialise_with_bar(missions, settings_file=settings_file, verbose=verbose)
    sys.exit(1 if failed else 0)


@main.command()
@click.option("--mission", "missions", multiple=True, help="Mission name; all when left out.")
@settings_option
@clear_errors
def status(missions: tuple[str, ...], settings_file: Path | None) -> None:
    """Show per mission what is discovered, remembered, written and rejected, and where."""
    from stage_a_pipeline.settings import load_settings
    from stage_a_pipeline.status import mission_status
    from stage_a_pipeline.terminal import print_status

    settings = load_settings(environ=os.environ, settings_file=settings_file)
    print_status(mission_status(settings, missions), settings)


@main.command()
@click.argument("file", type=ANY_PLACE)
@clear_errors
def validate(file: Place) -> None:
    """Check a canonical JSONL against the data contract.

    Exits with 1 when a line breaks it, naming line and field.
    """
    from stage_a_pipeline.jsonl import validate_file

    validation = validate_file(file)
    for warning in validation.warnings:
        click.echo(f"{file}: warning: {warning}", err=True)
    for error in validation.errors:
        click.echo(f"{file}: {error}", err=True)
    click.echo(f"{file}: {validation.lines} lines, {validation.error_count} errors")
    sys.exit(1 if validation.errors else 0)


@main.command()
@click.option(
    "--root",
    type=ANY_PLACE,
    help="Folder of the missions, or a URL; the settings' input root when left out.",
)
@click.option(
    "--mission", "missions", multiple=True, help="Mission name; all that have a folder when left out."
)
@click.option("--checkpoint", help="Folder or hub id of a Qwen3-VL checkpoint, or `builtin`.")
@click.option("--truth", type=ANY_PLACE, help="Truth sidecar; truth.jsonl in the root when left out.")
@click.option("--device", "devices", multiple=True, help="`cpu`, `cuda:0`, ...; may be repeated.")
@click.option("--json", "json_file", type=ANY_PATH, help="Write all scores and confusions to this file.")
@click.option("--picture", "picture_file", type=ANY_PATH, help="Draw the confusions to this file (SVG).")
@click.option("--verdicts", is_flag=True, help="Judge Stage-B's verdicts per group too.")
@settings_option
@clear_errors
def evaluate(
    missions: tuple[str, ...],
    json_file: Path | None,
    picture_file: Path | None,
    verdicts: bool,
    settings_file: Path | None,
    **chosen: Any,
) -> None:
    """Compare a checkpoint's summaries with what is known to be true of the photos.

    Answers are remembered in the output folder's journals, as those of every run: an interrupted
    evaluation goes on where it stopped, and photos that the pipeline has summarised with the same
    settings are not asked again.
    """
    if json_file is not None and picture_file is not None and json_file.resolve() == picture_file.resolve():
        raise click.UsageError("--json and --picture name the same file; give each its own")
    from stage_a_pipeline.evaluation.document import write_document, write_picture
    from stage_a_pipeline.settings import load_settings
    from stage_a_pipeline.terminal import evaluate_with_bar, print_evaluation, print_place

    settings = load_settings(
        environ=os.environ,
        settings_file=settings_file,
        overrides=_evaluation_overrides(**chosen),
        overrides_source="command line",
    )
    evaluation = evaluate_with_bar(settings, missions, verdicts=verdicts)
    # Before the files: what was measured is seen even where it cannot be written.
    print_evaluation(evaluation)
    if json_file is not None:
        write_document(json_file, evaluation)
        print_place("scores", json_file)
    if picture_file is not None:
        write_picture(picture_file, evaluation)
        print_place("picture", picture_file)


def _evaluation_overrides(
    root: Place | None, checkpoint: str | None, truth: Place | None, devices: tuple[str, ...]
) -> dict[str, dict[str, object]]:
    """The settings that the options of `evaluate` set. A root of its own brings its own truth."""
    overrides: dict[str, dict[str, object]] = {"discovery": {}, "engine": {}, "evaluation": {}}
    if root is not None:
        overrides["discovery"]["input_root"] = root
    if root is not None or truth is not None:
        overrides["evaluation"]["truth"] = truth
    if checkpoint is not None:
        overrides["engine"]["checkpoint"] = checkpoint
    if devices:
        overrides["engine"]["devices"] = devices
    return overrides


@main.group()
def demo() -> None:
    """Sample photos, and a run of the whole pipeline on them."""


@demo.command("tree")
@click.option("--root", type=ANY_PATH, required=True, help="Folder to write to; must be empty or new.")
@click.option(
    "--mission",
    "missions",
    multiple=True,
    help="Mission name; may be repeated. The seven packaged ones when left out.",
)
@click.option(
    "--groups", type=click.IntRange(min=1), default=12, show_default=True, help="Groups per mission."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--broken", type=click.IntRange(min=0), default=0, show_default=True, help="Broken photo files."
)
@click.option(
    "--label-noise",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of groups in the wrong label's folder.",
)
@clear_errors
def demo_tree(root: Path, missions: tuple[str, ...], **plan: Any) -> None:
    """Render photos of invented installations, a reviewers' workbook, and the truth about both."""
    from stage_a_pipeline.demo.tree import write_demo_tree
    from stage_a_pipeline.missions import load_missions

    tree = write_demo_tree(root, missions=missions or list(load_missions()), **plan)
    click.echo(tree.sentence())


@demo.command("scan")
@click.option(
    "--dir", "folder", type=ANY_PATH, required=True, help="Folder to write to; must be empty or new."
)
@click.option(
    "--positions", type=click.IntRange(min=1), default=400, show_default=True, help="Places of the scan."
)
@click.option(
    "--patch-size", type=click.IntRange(min=4), default=64, show_default=True, help="Side of a patch, in px."
)
@click.option(
    "--step",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Pixels from one place to the next.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes."
)
@clear_errors
def demo_scan(folder: Path, **plan: Any) -> None:
    """Invent a ptychography scan, the patches that two models predict of it, and the truth about both."""
    from stage_a_pipeline.demo.scan import write_demo_scan

    scan = write_demo_scan(folder, **plan)
    click.echo(scan.sentence())
    click.echo(f"compare the models: {scan.next_command()}")


@demo.command("run")
@click.option("--dir", "folder", type=ANY_PATH, default=Path("demo_run"), show_default=True)
@clear_errors
def demo_run(folder: Path) -> None:
    """Render a sample tree and materialise it with the built-in checkpoint."""
    from stage_a_pipeline.demo_tour import run_demo

    sys.exit(1 if run_demo(folder) else 0)


@demo.command("ui")
@click.option("--dir", "folder", type=ANY_PATH, default=Path("demo_run"), show_default=True)
@click.option("--port", type=int, default=3000, show_default=True)
@clear_errors
def demo_ui(folder: Path, port: int) -> None:
    """Open the Dagster UI on the demo's results, on this machine only."""
    from stage_a_pipeline.demo_tour import serve_demo

    serve_demo(folder, port=port)


@demo.command("grpo")
@click.option("--dir", "folder", type=ANY_PATH, default=Path("demo_grpo"), show_default=True)
@click.option("--seed", type=int, default=42, show_default=True, help="Of the split and of the training.")
@clear_errors
def demo_grpo(folder: Path, seed: int) -> None:
    """Train an adapter on rendered groups of a mission whose rule the built-in checkpoint does not know."""
    from stage_a_pipeline.demo_learning import run_learning_demo

    sys.exit(1 if run_learning_demo(folder, seed=seed) else 0)


@demo.command("train")
@click.option("--out", type=ANY_PATH, required=True, help="Folder for the checkpoint and the training state.")
@click.option("--seed", type=int, default=11, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="`cpu` or `cuda:0`.")
@clear_errors
def demo_train(out: Path, seed: int, device: str) -> None:
    """Train the small demonstration checkpoint from nothing; continues where it was stopped."""
    import logging

    from stage_a_pipeline.demo.training.train import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    click.echo(f"checkpoint: {train(out, seed=seed, device=device)}")


main.add_command(batch)
main.add_command(bench)
main.add_command(compare)
main.add_command(compare_models)
main.add_command(data_sets)
main.add_command(metrics)
main.add_command(export)
main.add_command(reassemble)
main.add_command(report)
main.add_command(grpo)

"""`stage-a grpo`: thin commands over Stage-B.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stage_a_pipeline.cli_options import ANY_PATH, ANY_PLACE, clear_errors, settings_option
from stage_a_pipeline.places import Place

if TYPE_CHECKING:
    from stage_a_pipeline.settings import Settings


def stage_b_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that set what Stage-B learns from; the command gets the resulting `settings`."""

    @clear_errors
    @wraps(command)
    def with_settings(
        settings_file: Path | None,
        data: tuple[Place, ...],
        missions: tuple[str, ...],
        checkpoint: str | None,
        devices: tuple[str, ...],
        out: Path | None,
        **others: Any,
    ) -> Any:
        from stage_a_pipeline.settings import load_settings

        given = {"files": data, "missions": missions, "output_dir": out}
        engine = {"checkpoint": checkpoint, "devices": devices}
        overrides = {
            section: {key: value for key, value in values.items() if value}
            for section, values in (("grpo", given), ("engine", engine))
        }
        settings = load_settings(
            environ=os.environ,
            settings_file=settings_file,
            overrides=overrides,
            overrides_source="command line",
        )
        return command(settings=settings, **others)

    for option in (
        click.option("--out", type=ANY_PATH, help="Folder of Stage-B's results (grpo.output_dir)."),
        click.option("--device", "devices", multiple=True, help="`cpu`, `cuda:0`, ...; may be repeated."),
        click.option("--checkpoint", help="Folder or hub id of a Qwen3-VL checkpoint, or `builtin`."),
        click.option("--mission", "missions", multiple=True, help="Mission name; all when left out."),
        click.option(
            "--data",
            multiple=True,
            type=ANY_PLACE,
            help="Canonical JSONL; may be repeated. Those of the output folder when left out.",
        ),
        settings_option,
    ):
        with_settings = option(with_settings)
    return with_settings


@click.group()
def grpo() -> None:
    """Stage-B: an adapter for verdicts on groups, trained by GRPO."""


@grpo.command("train")
@click.option("--dry-run", "dry", is_flag=True, help="Check everything and train nothing: see `dry-run`.")
@stage_b_options
def grpo_train(settings: Settings, dry: bool) -> None:
    """Train an adapter; goes on after its last checkpoint where it was stopped."""
    if dry:
        _dry_run(settings)
        return
    from stage_a_pipeline.grpo_terminal import train_with_bar

    train_with_bar(settings)


@grpo.command("dry-run")
@stage_b_options
def grpo_dry_run(settings: Settings) -> None:
    """Check data, model and layers, and show the rewards of a few answers; nothing is trained."""
    _dry_run(settings)


@grpo.command("evaluate")
@click.option("--adapter", type=ANY_PATH, help="Folder of an adapter; the one trained last when left out.")
@stage_b_options
def grpo_evaluate(settings: Settings, adapter: Path | None) -> None:
    """Judge tickets that the adapter has not seen, before and after, and Stage-A with it and without."""
    from stage_a_pipeline.grpo_terminal import evaluate_adapter_with_bar

    evaluate_adapter_with_bar(settings, adapter)


@grpo.command("export-swift")
@click.argument("folder", type=ANY_PATH)
@stage_b_options
def grpo_export_swift(settings: Settings, folder: Path) -> None:
    """Write rewards, data and command line for ms-swift into FOLDER, which must be empty or new."""
    from stage_a_pipeline.grpo_terminal import export_for_swift

    export_for_swift(settings, folder)


def _dry_run(settings: Settings) -> None:
    from stage_a_pipeline.grpo_terminal import dry_run_with_bar

    dry_run_with_bar(settings)

"""What all commands share: their errors, and options of the same meaning."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stage_a_pipeline.errors import StageAError

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show an error that is meant for users as one sentence, and exit with 1; with 130 after Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except StageAError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt as interrupt:
            click.echo("; ".join(["interrupted", *map(str, interrupt.args)]), err=True)
            sys.exit(130)

    return guarded


def settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--settings FILE, as every command that reads settings takes it."""
    return click.option(
        "--settings",
        "settings_file",
        type=ANY_PATH,
        help="Settings file (TOML). Without it, STAGE_A_SETTINGS names one.",
    )(command)

"""What all commands share: their errors, and options of the same meaning."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.places import Place, as_place, to_path

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class PlaceType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """A path of this machine, or where those are allowed, the URL of an object or a prefix."""

    name = "path"

    def __init__(self, *, urls: bool) -> None:
        self._urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """See ParamType."""
        try:
            place = as_place(os.fspath(value))
            return place if self._urls else to_path(place)
        except ValueError as error:
            self.fail(str(error), param, ctx)


ANY_PATH = PlaceType(urls=False)
ANY_PLACE = PlaceType(urls=True)


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

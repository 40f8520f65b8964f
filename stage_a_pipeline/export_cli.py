"""`stage-a export`: delivered missions in the formats of other tools.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option

if TYPE_CHECKING:
    from stage_a_pipeline.exports.export import ExportOrder, Writer
    from stage_a_pipeline.exports.photo_bytes import Images
    from stage_a_pipeline.settings import Settings


@click.group()
def export() -> None:
    """Delivered missions for other tools: Parquet, Hugging Face, Label Studio, FiftyOne."""


_Command = Callable[..., Any]


def _export_command(name: str, *, leave_out_gone: bool = False) -> Callable[[_Command], _Command]:
    """A command below `export` with the options of all formats; it gets `order` and `settings`."""

    def register(command: _Command) -> _Command:
        @clear_errors
        @wraps(command)
        def with_order(
            output: Path, settings_file: Path | None, images: Images = "none", **others: Any
        ) -> None:
            from stage_a_pipeline.exports.export import ExportOrder
            from stage_a_pipeline.settings import load_settings

            shared = {key: others.pop(key) for key in _SHARED}
            order = ExportOrder(output, name, images=images, leave_out_gone=leave_out_gone, **shared)
            settings = load_settings(environ=os.environ, settings_file=settings_file)
            command(order=order, settings=settings, **others)

        for option in _SHARED_OPTIONS:
            with_order = option(with_order)
        return export.command(name)(with_order)

    return register


_SHARED: Final = ("missions", "with_rejected", "require_photos", "replace")
_SHARED_OPTIONS: Final = (
    settings_option,
    click.option("--replace", is_flag=True, help="Replace the export that the folder holds."),
    click.option("--require-photos", is_flag=True, help="Fail where the file of a photo is gone."),
    click.option("--with-rejected", is_flag=True, help="Rejected photos too, without a summary."),
    click.option(
        "--mission", "missions", multiple=True, help="Mission name; all delivered ones when left out."
    ),
    click.option("--output", type=ANY_PATH, required=True, help="Folder to write to; must be empty or new."),
)


def _images_option(*choices: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    meanings = {"none": "names alone", "copy": "files beside the export", "embed": "bytes within it"}
    told = ", ".join(f"{choice} ({meanings[choice]})" for choice in choices)
    return click.option(
        "--images",
        type=click.Choice(choices),
        default="none",
        show_default=True,
        help=f"What to take of the photos themselves: {told}.",
    )


@_export_command("parquet")
@_images_option("none", "embed")
def export_parquet(order: ExportOrder, settings: Settings) -> None:
    """Write photos.parquet and groups.parquet."""
    from stage_a_pipeline.exports.parquet import parquet_writer

    _export(order, settings, parquet_writer(order.images))


@_export_command("dataset")
@_images_option("none", "copy", "embed")
def export_dataset(order: ExportOrder, settings: Settings) -> None:
    """Write a folder with a card that `datasets.load_dataset` opens."""
    from stage_a_pipeline.exports.dataset_folder import dataset_writer

    _export(order, settings, dataset_writer(order.images))


@_export_command("label-studio", leave_out_gone=True)
@click.option(
    "--image-prefix",
    help="What stands before a photo's path below the input root: https://..., s3://..., or "
    "/data/local-files/?d=FOLDER/ with the input root's own name, which is the default.",
)
def export_label_studio(order: ExportOrder, settings: Settings, image_prefix: str | None) -> None:
    """Write tasks with predictions, and the page to label them on."""
    from stage_a_pipeline.exports.label_studio import default_image_prefix, label_studio_writer

    root = settings.require_input_root()
    prefix = default_image_prefix(root) if image_prefix is None else image_prefix
    _export(order, settings, label_studio_writer(prefix))


@_export_command("fiftyone", leave_out_gone=True)
@_images_option("none", "copy")
def export_fiftyone(order: ExportOrder, settings: Settings) -> None:
    """Write a folder that FiftyOne imports as a FiftyOneDataset."""
    from stage_a_pipeline.exports.fiftyone import fiftyone_writer, require_readable

    require_readable(settings.require_input_root(), order.images)
    _export(order, settings, fiftyone_writer())


def _export(order: ExportOrder, settings: Settings, write: Writer) -> None:
    from stage_a_pipeline.exports.export import export as export_missions
    from stage_a_pipeline.terminal import console, print_place

    exported = export_missions(order, settings, write)
    for sentence in exported.sentences():
        console.print(sentence, soft_wrap=True, markup=False)
    print_place("export", exported.folder)

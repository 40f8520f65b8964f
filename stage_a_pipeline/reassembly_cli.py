"""`stage-a reassemble`, `compare-models` and `data-sets`: thin commands over the reassembly of patches.

Modules that a command needs are imported inside it: `stage-a --help` loads neither numpy nor torch.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option
from stage_a_pipeline.errors import OutputError

if TYPE_CHECKING:
    from stage_a_pipeline.reassembly.comparison import ComparisonRequest

_POSITIVE = click.IntRange(min=1)


def _folder_option(name: str, help_text: str, *, required: bool = True) -> Callable[..., Any]:
    """--name_with_underscores, as other programs of the field spell it; dashes do as well."""
    dashed = name.replace("_", "-")
    return click.option(f"--{name}", f"--{dashed}", name, type=ANY_PATH, required=required, help=help_text)


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How much of a model's input is held, and given to it, at once."""
    for arm, name in (("baseline", "baseline"), ("pinn", "PtychoPINN")):
        for flag, default, what in (
            ("predict-batch-size", 32, f"Patterns that the {name} model is given at once."),
            ("chunk-size", 1024, f"Patterns that are read at once for the {name} model."),
        ):
            option = click.option(
                f"--{arm}-{flag}", type=_POSITIVE, default=default, show_default=True, help=what
            )
            command = option(command)
    return command


def _selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which positions of the scan are compared."""
    for option in (
        click.option(
            "--test-subsample-seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Of the draw.",
        ),
        click.option("--n-test-subsample", type=_POSITIVE, help="Draw so many scan positions."),
        click.option("--n-test-groups", type=_POSITIVE, help="Keep the first so many positions."),
    ):
        command = option(command)
    return command


def _metric_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the metrics leave to choose."""
    sigma = click.FloatRange(min=0)
    for option in (
        click.option(
            "--ms-ssim-sigma",
            type=sigma,
            default=1.0,
            show_default=True,
            help="Smoothing of amplitudes for MS-SSIM, in pixels.",
        ),
        click.option(
            "--frc-sigma",
            type=sigma,
            default=0.0,
            show_default=True,
            help="Smoothing of FRC curves, in bins.",
        ),
        click.option(
            "--phase-align-method",
            type=click.Choice(["plane", "mean"]),
            default="plane",
            show_default=True,
            help="What is taken off each phase.",
        ),
        click.option("--skip-registration", is_flag=True, help="Compare without a sub-pixel registration."),
    ):
        command = option(command)
    return command


def _stitch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How patches become an object, and where."""
    for names, default, what in (
        (("--stitch-batch-size", "--batch-size"), 256, "Patches that are stitched at once."),
        (("--stitch-crop-size", "--crop-size"), 20, "Side of the middle of a patch that counts."),
    ):
        option = click.option(*names, type=_POSITIVE, default=default, show_default=True, help=what)
        command = option(command)
    return click.option("--device", default="auto", show_default=True, help="`auto`, `cpu` or `cuda:0`.")(
        command
    )


@click.command("reassemble")
@click.argument("patches", type=ANY_PATH)
@click.option(
    "--offsets",
    type=ANY_PATH,
    help="Positions (x, y), .npy or .npz; those in PATCHES (.npz) or in offsets.npy beside it when left out.",
)
@click.option("--out", type=ANY_PATH, required=True, help="File for the object (.npz).")
@click.option("--picture", type=ANY_PATH, help="Draw amplitude and phase to this file (PNG).")
@_stitch_options
@click.option("--quiet/--verbose", default=False, help="Show neither a bar nor what came out.")
@clear_errors
def reassemble(
    patches: Path,
    offsets: Path | None,
    out: Path,
    picture: Path | None,
    stitch_crop_size: int,
    stitch_batch_size: int,
    device: str,
    quiet: bool,
) -> None:
    """Stitch the overlapping patches of a file (.npy, or `patches` in an .npz) to one object.

    The batch size bounds the memory and changes nothing else.
    """
    _check_places(patches, offsets, out, picture)
    from stage_a_pipeline.reassembly.object_picture import write_object_picture
    from stage_a_pipeline.reassembly.reconstruction_file import write_reconstruction
    from stage_a_pipeline.reassembly.sources import offsets_beside
    from stage_a_pipeline.reassembly.stitching import reassemble_file
    from stage_a_pipeline.reassembly_terminal import object_bar, print_object

    with object_bar(quiet=quiet) as tell:
        found = reassemble_file(
            patches,
            offsets or offsets_beside(patches),
            crop_size=stitch_crop_size,
            batch_size=stitch_batch_size,
            device=device,
            tell=tell,
        )
    write_reconstruction(out, found)
    if picture is not None:
        write_object_picture(picture, found.object)
    if not quiet:
        print_object(found, out, picture)


@click.command("compare-models")
@_folder_option("pinn_dir", "Folder of the model that is called PtychoPINN.")
@_folder_option("baseline_dir", "Folder of the baseline model.")
@_folder_option("test_data", "Scan (.npz): diffraction, xcoords, ycoords, objectGuess.")
@_folder_option("output_dir", "Folder of the results.")
@_folder_option("tike_recon_path", "Object of a third program (.npz: reconstructed_object).", required=False)
@_selection_options
@_metric_options
@_stitch_options
@_model_options
@click.option(
    "--save-npz/--no-save-npz",
    default=True,
    show_default=True,
    help="Write the objects as they are stitched.",
)
@click.option(
    "--save-npz-aligned/--no-save-npz-aligned",
    default=True,
    show_default=True,
    help="Write the objects as compared.",
)
@click.option("--quiet/--verbose", default=False, help="Show neither bars nor tables; warnings are shown.")
@clear_errors
def compare_models(
    output_dir: Path, save_npz: bool, save_npz_aligned: bool, quiet: bool, **chosen: Any
) -> None:
    """Compare the objects of two or three models with the true object.

    A model's folder holds reconstruction.npz, patches.npz, patches.npy, or a model.pt2, model.pt or model.ts
    that predicts patches from diffraction patterns.
    """
    from stage_a_pipeline.reassembly.comparison import compare, require_extra
    from stage_a_pipeline.reassembly.comparison_files import claim_comparison, write_comparison
    from stage_a_pipeline.reassembly_terminal import comparison_bars, print_comparison
    from stage_a_pipeline.storage import ensure_folder
    from stage_a_pipeline.terminal import print_place

    require_extra()
    # Before the work: a folder that cannot be made would cost all of it.
    ensure_folder(output_dir)
    request = _request(**chosen)
    with claim_comparison(output_dir, run_id=f"compare-models-{uuid.uuid4()}"):
        with comparison_bars(quiet=quiet) as audience:
            comparison = compare(request, audience)
        if not quiet:
            # Before the files: what was measured is seen even where it cannot be written.
            print_comparison(comparison)
        written = write_comparison(
            output_dir, comparison, save_npz=save_npz, save_npz_aligned=save_npz_aligned
        )
    for path in () if quiet else written:
        print_place("written", path)


@click.command("data-sets")
@settings_option
@clear_errors
def data_sets(settings_file: Path | None) -> None:
    """List the data sets of the reassembly, and add new ones to the Dagster instance of DAGSTER_HOME.

    They are the partitions of its assets. In `dagster dev` a sensor adds them.
    """
    from stage_a_pipeline.defs.data_sets import add_data_sets
    from stage_a_pipeline.reassembly.data_set import list_data_sets
    from stage_a_pipeline.settings import load_settings

    settings = load_settings(environ=os.environ, settings_file=settings_file).reassembly
    names = list_data_sets(settings)
    added = add_data_sets(settings)
    for name in names:
        click.echo(f"{name}  new" if added is not None and name in added.new else name)
    if not names:
        click.echo(f"no folder in {settings.data_dir} holds a test_data.npz", err=True)
    if added is None:
        click.echo("DAGSTER_HOME is not set: they are listed, and added to no Dagster instance", err=True)


def _check_places(patches: Path, offsets: Path | None, out: Path, picture: Path | None) -> None:
    """Before the work, which would be lost: results replace neither inputs nor each other."""
    # Not Path.resolve, which raises an error of its own for links that lead in a circle.
    if picture is not None and os.path.realpath(picture) == os.path.realpath(out):
        raise click.UsageError("--out and --picture name the same file; give each its own")
    read = {os.path.realpath(place) for place in (patches, offsets or patches.with_name("offsets.npy"))}
    for place in filter(None, (out, picture)):
        if os.path.realpath(place) in read:
            raise click.UsageError(f"{place} would replace what is read; give the result a file of its own")
        if not place.parent.is_dir():
            raise OutputError(
                f"{place} cannot be written: there is no folder {place.parent}; create it first"
            )


def _request(
    pinn_dir: Path,
    baseline_dir: Path,
    test_data: Path,
    tike_recon_path: Path | None,
    device: str,
    skip_registration: bool,
    **numbers: Any,
) -> ComparisonRequest:
    """What the options ask for."""
    from stage_a_pipeline.reassembly.arms import Predicting, Stitching
    from stage_a_pipeline.reassembly.comparison import ComparisonRequest
    from stage_a_pipeline.reassembly.metrics import MetricOptions
    from stage_a_pipeline.reassembly.selection import Selection

    selection = Selection(
        numbers["n_test_subsample"], numbers["n_test_groups"], numbers["test_subsample_seed"]
    )
    return ComparisonRequest(
        pinn_dir=pinn_dir,
        baseline_dir=baseline_dir,
        stitching=Stitching(
            test_data, selection, numbers["stitch_crop_size"], numbers["stitch_batch_size"], device
        ),
        third=tike_recon_path,
        pinn=Predicting(numbers["pinn_chunk_size"], numbers["pinn_predict_batch_size"]),
        baseline=Predicting(numbers["baseline_chunk_size"], numbers["baseline_predict_batch_size"]),
        metrics=MetricOptions(numbers["phase_align_method"], numbers["frc_sigma"], numbers["ms_ssim_sigma"]),
        skip_registration=skip_registration,
    )

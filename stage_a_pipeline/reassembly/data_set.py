"""Data sets: a folder each, of which every model's patches become an object, and two models are compared.

`<data_dir>/<name>/test_data.npz`, a folder per model beside it, and perhaps the object of a third program as
`tike.npz`. Results: `<output>/<name>/<model>/reconstruction.npz` and `<output>/<name>/comparison/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import ConfigurationError, OutputError, ReassemblyError
from stage_a_pipeline.reassembly.arms import Predicting, Stitching, reassemble_model
from stage_a_pipeline.reassembly.comparison import (
    Comparison,
    ComparisonAudience,
    ComparisonRequest,
    compare,
)
from stage_a_pipeline.reassembly.comparison_files import write_comparison
from stage_a_pipeline.reassembly.metrics import MetricOptions
from stage_a_pipeline.reassembly.model_folder import ModelFile, list_models
from stage_a_pipeline.reassembly.reconstruction_file import write_reconstruction
from stage_a_pipeline.reassembly.stitched_object import StitchedObject, look_at
from stage_a_pipeline.settings_reassembly import ReassemblySettings
from stage_a_pipeline.storage import child_path, ensure_folder, output_errors, unfinished_folder

TEST_DATA: Final = "test_data.npz"
RECONSTRUCTION: Final = "reconstruction.npz"
COMPARISON: Final = "comparison"
_THIRD: Final = "tike.npz"
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, the folder that it lies in, and that of its results."""

    name: str
    folder: Path
    results: Path

    @property
    def test_data(self) -> Path:
        """The scan itself; a folder without it is no data set."""
        return self.folder / TEST_DATA


@dataclass(frozen=True, slots=True, eq=False)
class ComparedDataSet:
    """A comparison, and the files that tell of it."""

    comparison: Comparison
    files: tuple[Path, ...]


def list_data_sets(settings: ReassemblySettings) -> tuple[str, ...]:
    """The names of all data sets, sorted. ConfigurationError where their folder is not set or not there."""
    folder = _data_dir(settings)
    try:
        found = sorted(path.name for path in folder.iterdir() if (path / TEST_DATA).is_file())
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be read: {error.strerror}; correct reassembly.data_dir"
        ) from error
    return tuple(name for name in found if not name.startswith("."))


def find_data_set(settings: ReassemblySettings, name: str, *, output: Path) -> DataSet:
    """The data set of that name. ReassemblyError where there is none, ConfigurationError without a folder."""
    folder = _data_dir(settings)
    try:
        # Nothing but a name: the key of a partition may be typed by hand.
        results = child_path(output, name)
    except OutputError as error:
        raise ReassemblyError(f"{name!r} is no data set's name: it leads out of {folder}") from error
    data_set = DataSet(name, folder / name, results)
    if not data_set.test_data.is_file():
        raise ReassemblyError(
            f"{data_set.test_data} is not there, so there is no data set {name!r}; bring it back, or remove "
            "its partition in the Dagster UI"
        )
    return data_set


def stitch_data_set(
    data_set: DataSet, settings: ReassemblySettings, audience: ComparisonAudience, *, device: str
) -> tuple[StitchedObject, ...]:
    """Write the object of every model; what was there before stays until all of them are done.

    Models that come as a stitched object are left as they are. Raises ReassemblyError, OutputError.
    """
    models = list_models(data_set.folder)
    if not models:
        raise ReassemblyError(
            f"{data_set.folder} holds no folder with a model's patches; put those of a model into a folder "
            "such as `pinn` there, as patches.npz (`patches`, `offsets`) or patches.npy and offsets.npy"
        )
    for name, model in models.items():
        if model.kind == "reconstruction":
            audience.notice(f"{name}: {model.path} is stitched already, and is taken as it is")
    with _appearing_together(data_set.results) as unfinished:
        return tuple(
            _stitch(data_set, name, model, settings, audience, device=device, unfinished=unfinished)
            for name, model in models.items()
            if model.kind != "reconstruction"
        )


def compare_data_set(
    data_set: DataSet, settings: ReassemblySettings, audience: ComparisonAudience
) -> ComparedDataSet:
    """Compare the objects of `pinn` and `baseline`, and write it. Raises ReassemblyError, OutputError."""
    models = list_models(data_set.folder)
    third = data_set.folder / _THIRD
    request = ComparisonRequest(
        pinn_dir=_object_folder(data_set, "pinn", models),
        baseline_dir=_object_folder(data_set, "baseline", models),
        # Nothing is stitched any more.
        stitching=Stitching(data_set.test_data, crop_size=settings.crop_size, device="cpu"),
        third=third if third.is_file() else None,
        metrics=MetricOptions(settings.phase_align_method, settings.frc_sigma, settings.ms_ssim_sigma),
        skip_registration=not settings.registration,
    )
    comparison = compare(request, audience)
    return ComparedDataSet(comparison, write_comparison(data_set.results / COMPARISON, comparison))


def content_version(paths: Iterable[Path]) -> str:
    """A hash of these files' contents. Raises ReassemblyError."""
    found = sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                found.update(file_digest(file, "sha256").digest())
        except OSError as error:
            raise ReassemblyError(f"{path} cannot be read: {error.strerror}; stitch it again") from error
    return found.hexdigest()


def _data_dir(settings: ReassemblySettings) -> Path:
    if settings.data_dir is None:
        raise ConfigurationError(
            "no folder of data sets is set; give reassembly.data_dir in the settings file"
        )
    return settings.data_dir


def _stitch(
    data_set: DataSet,
    name: str,
    model: ModelFile,
    settings: ReassemblySettings,
    audience: ComparisonAudience,
    *,
    device: str,
    unfinished: Path,
) -> StitchedObject:
    stitching = Stitching(
        data_set.test_data, crop_size=settings.crop_size, batch_size=settings.batch_size, device=device
    )
    predicting = Predicting(settings.chunk_size, settings.predict_batch_size)
    found = reassemble_model(model, stitching, predicting, audience.progress(name))
    written = ensure_folder(child_path(unfinished, name)) / RECONSTRUCTION
    write_reconstruction(written, found.reassembly)
    return look_at(
        written,
        model=name,
        path=child_path(data_set.results, name) / RECONSTRUCTION,
        patches=found.patches,
        seconds=found.seconds,
    )


def _object_folder(data_set: DataSet, name: str, models: dict[str, ModelFile]) -> Path:
    """Where the object of that model lies; where there is none, the folder that it should lie in."""
    if name not in models or models[name].kind == "reconstruction":
        return data_set.folder / name
    folder = child_path(data_set.results, name)
    if not (folder / RECONSTRUCTION).is_file():
        raise ReassemblyError(
            f"{folder / RECONSTRUCTION} is not there; materialise reassembled_object of data set "
            f"{data_set.name!r} first"
        )
    return folder


@contextmanager
def _appearing_together(results: Path) -> Iterator[Path]:
    """A folder to fill with one per model; their objects replace older ones when the block ends."""
    with unfinished_folder(ensure_folder(results) / _UNFINISHED) as unfinished:
        yield unfinished
        for folder in sorted(unfinished.iterdir()):
            target = ensure_folder(results / folder.name) / RECONSTRUCTION
            with output_errors(target):
                (folder / RECONSTRUCTION).replace(target)

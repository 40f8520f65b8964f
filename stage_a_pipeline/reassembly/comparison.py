"""Reconstructions of several models against the true object: stitched, aligned, registered, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from stage_a_pipeline.errors import ConfigurationError, ReassemblyError
from stage_a_pipeline.reassembly.alignment import Aligned, align, world_box
from stage_a_pipeline.reassembly.arms import (
    Arm,
    Predicting,
    Stitching,
    read_third_arm,
    stitch_model,
)
from stage_a_pipeline.reassembly.device import choose_device
from stage_a_pipeline.reassembly.geometry import plan
from stage_a_pipeline.reassembly.metrics import MetricOptions, Metrics, compare_objects
from stage_a_pipeline.reassembly.model_folder import ModelFile, find_model
from stage_a_pipeline.reassembly.registration import Offset, register
from stage_a_pipeline.reassembly.scan_data import read_positions, read_true_object
from stage_a_pipeline.reassembly.stitching import TellOf

PINN: Final = "PtychoPINN"
BASELINE: Final = "Baseline"

_LIBRARIES: Final = {"scipy": "scipy", "skimage": "scikit-image", "matplotlib": "matplotlib"}


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """Two folders of models, perhaps the object of a third program, and the test data that they are about."""

    pinn_dir: Path
    baseline_dir: Path
    stitching: Stitching
    third: Path | None = None
    pinn: Predicting = field(default_factory=Predicting)
    baseline: Predicting = field(default_factory=Predicting)
    metrics: MetricOptions = field(default_factory=MetricOptions)
    skip_registration: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonAudience:
    """Who is told what while objects are stitched: sentences, and per arm how far it is."""

    notice: Callable[[str], None] = lambda _: None
    progress: Callable[[str], TellOf] = lambda _: lambda _done, _total: None


@dataclass(frozen=True, slots=True, eq=False)
class ComparedArm:
    """An arm, its pixels beside the same ones of the truth, and how near they are; None without a truth.

    `offset` is the shift that registration applied to it; None where nothing was registered.
    """

    arm: Arm
    aligned: Aligned | None = None
    offset: Offset | None = None
    metrics: Metrics | None = None

    @property
    def name(self) -> str:
        """What the object came from."""
        return self.arm.name


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All arms, PtychoPINN first, the true object where it is known, and what people should know of both."""

    arms: tuple[ComparedArm, ...]
    truth: NDArray[Any] | None
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Notices:
    """Tells sentences on, and keeps them."""

    tell_on: Callable[[str], None]
    told: list[str] = field(default_factory=list)

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)
        self.tell_on(sentence)


def compare(request: ComparisonRequest, audience: ComparisonAudience | None = None) -> Comparison:
    """The objects of all arms, and their metrics where the test data holds the true object.

    Raises ReassemblyError for files that cannot be used, ConfigurationError for a device or a library that is
    not there.
    """
    require_extra()
    choose_device(request.stitching.device)
    audience = audience or ComparisonAudience()
    notices = _Notices(audience.notice)
    # All that can be refused at once is looked at before a model is asked for an hour.
    models = {PINN: find_model(request.pinn_dir), BASELINE: find_model(request.baseline_dir)}
    truth = read_true_object(request.stitching.test_data)
    third = [] if request.third is None else [read_third_arm(request.third)]
    _tell_of_choices(models, third, request, notices)
    arms = [
        stitch_model(name, model, request.stitching, predicting, audience.progress(name))
        for (name, model), predicting in zip(models.items(), (request.pinn, request.baseline), strict=True)
    ]
    compared = _compare_arms([*arms, *third], truth, request, notices)
    return Comparison(tuple(compared), truth, tuple(notices.told))


def require_extra() -> None:
    """ConfigurationError where a library that compares is not installed."""
    missing = [name for module, name in _LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"comparing models needs {', '.join(missing)}, which the extra `reassembly` has: pip install "
            "'.[reassembly]' in the project's folder"
        )


def _tell_of_choices(
    models: dict[str, ModelFile], third: Sequence[Arm], request: ComparisonRequest, notices: _Notices
) -> None:
    for name, model in models.items():
        if model.others:
            unused = ", ".join(other.name for other in model.others)
            notices.tell(f"{name}: {model.path} is compared; {unused} beside it is not looked at")
    stitched = [name for name, model in models.items() if model.kind == "reconstruction"]
    whole = [*stitched, *(arm.name for arm in third)]
    if whole and request.stitching.selection.asked:
        notices.tell(
            f"{', '.join(whole)}: already stitched, so --n-test-subsample and --n-test-groups leave out "
            "nothing of it"
        )


def _compare_arms(
    arms: Sequence[Arm], truth: NDArray[Any] | None, request: ComparisonRequest, notices: _Notices
) -> list[ComparedArm]:
    if truth is None:
        notices.tell(
            f"{request.stitching.test_data}: has no objectGuess, so there is nothing to measure against; the "
            "reconstructions are written without metrics"
        )
        return [ComparedArm(arm) for arm in arms]
    aligned = [_align(arm, truth, request.stitching) for arm in arms]
    shifted = None if request.skip_registration else _register(arms, aligned, notices)
    pairs, offsets = shifted or (aligned, [None] * len(arms))
    return [
        ComparedArm(arm, pair, offset, _measure(arm.name, pair, request.metrics))
        for arm, pair, offset in zip(arms, pairs, offsets, strict=True)
    ]


def _align(arm: Arm, truth: NDArray[Any], stitching: Stitching) -> Aligned:
    if arm.anchor is not None:
        return align(arm.object, truth, arm.anchor, name=arm.name)
    positions = read_positions(stitching.test_data)
    if positions is not None:
        # Other programs do not tell where their object lies: as one of the same positions and crops would.
        scanned = plan(positions, patch_size=stitching.crop_size, crop_size=stitching.crop_size)
        truth = world_box(truth, scanned.anchor, scanned.side)
        if not truth.size:
            raise ReassemblyError(
                f"{stitching.test_data}: its positions lie beside its objectGuess; give them in pixels of "
                "it, x before y"
            )
    return align(arm.object, truth, None, name=arm.name)


def _register(
    arms: Sequence[Arm], aligned: Sequence[Aligned], notices: _Notices
) -> tuple[list[Aligned], list[Offset | None]] | None:
    """All arms on the truth's grid; None, which is told, where one of them cannot be brought there."""
    pairs: list[Aligned] = []
    offsets: list[Offset | None] = []
    for arm, pair in zip(arms, aligned, strict=True):
        try:
            found = register(pair.reconstruction, pair.truth)
        except ReassemblyError as error:
            notices.tell(f"{arm.name}: registration failed ({error}), so that no arm is registered")
            return None
        pairs.append(Aligned(found.reconstruction, found.truth))
        offsets.append(found.offset)
    return pairs, offsets


def _measure(name: str, pair: Aligned, options: MetricOptions) -> Metrics:
    try:
        return compare_objects(
            *pair,
            phase_align_method=options.phase_align_method,
            frc_sigma=options.frc_sigma,
            ms_ssim_sigma=options.ms_ssim_sigma,
        )
    except ReassemblyError as error:
        raise ReassemblyError(f"{name}: {error}") from error

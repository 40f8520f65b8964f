"""The settings of the reassembly: where data sets lie, and how objects are stitched and compared."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from stage_a_pipeline.settings_paths import FilePath
from stage_a_pipeline.settings_sections import Section


class ReassemblySettings(Section):
    """Overlapping complex patches to one object per model, and models compared with the true object."""

    data_dir: FilePath | None = Field(
        None, description="Folder that holds one folder per data set, each with its `test_data.npz`."
    )
    output_dir: FilePath | None = Field(
        None,
        description="Folder of this machine for objects and comparisons; unset is `reassembly` in "
        "`output_dir`, or where that is a URL, in the work folder.",
    )
    crop_size: int = Field(20, ge=1, description="Side of the middle of a patch that counts, in pixels.")
    batch_size: int = Field(256, ge=1, description="Patches that are stitched at once.")
    chunk_size: int = Field(1024, ge=1, description="Diffraction patterns that are read at once for a model.")
    predict_batch_size: int = Field(
        32, ge=1, description="Diffraction patterns that a model is given at once."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda:\d+)$",
        description="`auto`, `cpu` or `cuda:0`; `auto` is the first GPU where there is one.",
    )
    phase_align_method: Literal["plane", "mean"] = Field(
        "plane", description="What is taken off each phase before it is measured."
    )
    registration: bool = Field(
        True, description="Whether objects are shifted onto the true one, by parts of a pixel, before that."
    )
    frc_sigma: float = Field(0.0, ge=0.0, lt=math.inf, description="Smoothing of FRC curves, in bins.")
    ms_ssim_sigma: float = Field(
        1.0, ge=0.0, lt=math.inf, description="Smoothing of amplitudes for MS-SSIM, in pixels."
    )
    min_coverage: float = Field(
        0.95,
        ge=0.0,
        le=1.0,
        description="Share of the scanned box with a patch on it below which an asset check warns.",
    )

"""The settings of each stage: one frozen class per section, with its defaults and its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stage_a_pipeline.settings_paths import FilePath, FilePlace, state_folder

DEFAULT_PROFILE: Final = "summary_runtime"
"""The packaged profile of prompt texts."""


class Section(BaseModel):
    """A section of the settings file: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DiscoverySettings(Section):
    """Where the photos are, and what may be followed there."""

    input_root: FilePlace | None = Field(
        None, description="Folder that holds one folder per mission; may be a URL. Required."
    )
    missions_file: FilePath | None = Field(None, description="TOML file that adds or overrides missions.")
    allow_external_symlinks: bool = Field(
        False, description="Follow symbolic links that lead out of the input root."
    )
    photo_cache_mib: int = Field(
        4096, ge=1, description="MiB of photos kept on this machine's disk where `input_root` is a URL."
    )


class SamplingSettings(Section):
    """How many groups of each label to take."""

    pass_count: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Pass groups per mission; unset takes all, 0 none."
    )
    fail_count: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Fail groups per mission; unset takes all, 0 none."
    )
    seed: int = Field(42, description="Seed of the pass sample; fail groups use seed + 1.")


class PromptSettings(Section):
    """Which prompt texts to send with a photo."""

    profile: str = Field(DEFAULT_PROFILE, description="Profile within the prompts file.")
    prompts_file: FilePath | None = Field(
        None, description="TOML file with own texts, in the form of prompts/stage_a.toml."
    )
    text_before_image: bool = Field(
        False, description="Put all text before the photo, for checkpoints that were trained so."
    )


class InferenceSettings(Section):
    """How photos are batched, sharded and given up on."""

    batching_mode: Literal["cross_group", "per_group"] = Field(
        "cross_group", description="Whether successive groups share batches."
    )
    sharding_mode: Literal["per_group", "per_image"] = Field(
        "per_group", description="What is dealt out to the devices: whole groups, or single photos."
    )
    decode: Literal["exact", "fast"] = Field(
        "exact",
        description="`fast` lets libjpeg shrink a large JPEG while it decodes: less time, other pixels.",
    )
    decode_workers: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        "auto",
        description="Threads per device that prepare photos ahead; auto is 2 on a CPU, and on CUDA its share "
        "of the processors, 2 to 16.",
    )
    sort_window: int = Field(
        128,
        ge=0,
        description="So many successive photos are asked in order of their size, which pads less; 0 keeps "
        "their order, as batching_mode `per_group` does.",
    )
    max_failed_fraction: float = Field(
        0.1, ge=0.0, le=1.0, description="Share of rejected groups (two at least) above which a run fails."
    )
    worker_processes: bool = Field(
        True,
        description="Whether each shard runs in a process of its own, which may crash or hang; engine `vllm` "
        "needs that.",
    )
    stall_seconds: float = Field(
        600.0, gt=0, description="A worker process that is silent for so long is replaced by another."
    )
    lease_dir: FilePath | None = Field(
        None, description="Folder of the device leases; unset is one per user in the temporary folder."
    )

    @model_validator(mode="after")
    def _sharding_fits_batching(self) -> InferenceSettings:
        if self.sharding_mode == "per_image" and self.batching_mode != "cross_group":
            raise ValueError("sharding_mode 'per_image' needs batching_mode 'cross_group'")
        return self


class ExecutionSettings(Section):
    """Where the steps of a run happen. Decided when Dagster loads the code location."""

    executor: Literal["auto", "k8s"] = Field(
        "auto",
        description="`auto` runs steps in the run's own process, or, for several devices, in one each; "
        "`k8s` in a pod each, with the extra `k8s`.",
    )
    gpu_resource: str = Field(
        "nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="Kubernetes' name of a GPU, for pods of steps or runs whose devices are CUDA's.",
    )


class FailReasonSettings(Section):
    """The reviewers' workbook. Columns are numbers from 0, or header names when `header` is true."""

    workbook: FilePlace | None = Field(
        None, description="xlsx, xls or ods, may be a URL; unset passes records through."
    )
    sheet: str | None = Field(None, description="Sheet name; unset is the first sheet.")
    header: bool = Field(
        False, description="Whether the first row names the columns; columns may then be names."
    )
    group_id_column: int | str = Field(0, description="Column of the group id.")
    mission_column: int | str = Field(2, description="Column of the mission's name.")
    reason_column: int | str = Field(5, description="Column of the reviewers' reason.")
    flag_column: int | str = Field(6, description="Column of the flag.")
    fail_flag: int = Field(2, description="Value of the flag column that marks a fail.")

    @field_validator("group_id_column", "mission_column", "reason_column", "flag_column")
    @classmethod
    def _column_is_not_negative(cls, column: int | str) -> int | str:
        if isinstance(column, int) and column < 0:
            raise ValueError("a column number counts from 0")
        return column

    @model_validator(mode="after")
    def _names_need_a_header(self) -> FailReasonSettings:
        if not self.header and any(isinstance(column, str) for column in self.columns):
            raise ValueError("columns given by name need header = true")
        return self

    @property
    def columns(self) -> tuple[int | str, int | str, int | str, int | str]:
        """Group id, mission, reason and flag column, in that order."""
        return self.group_id_column, self.mission_column, self.reason_column, self.flag_column


class EvaluationSettings(Section):
    """The truth that answers are compared with, and the shares below which an asset check warns."""

    truth: FilePlace | None = Field(
        None,
        description="Truth sidecar (JSONL), may be a URL; unset is `truth.jsonl` in the input root, where it "
        "exists.",
    )
    min_valid: float = Field(0.99, ge=0.0, le=1.0, description="Answers that are valid summaries.")
    min_exact_match: float = Field(0.85, ge=0.0, le=1.0, description="Answers equal to the truth.")
    min_attribute_recall: float = Field(
        0.9, ge=0.0, le=1.0, description="True values that were said; of all attributes, and of the weakest."
    )
    min_attribute_precision: float = Field(
        0.9, ge=0.0, le=1.0, description="Said values that are true; of all attributes, and of the weakest."
    )
    min_irrelevant_recall: float = Field(
        0.98, ge=0.0, le=1.0, description="Irrelevant photos that were called so."
    )
    min_irrelevant_precision: float = Field(
        0.99, ge=0.0, le=1.0, description="Photos called irrelevant that are."
    )


class OutputSettings(Section):
    """Where results go."""

    output_dir: FilePlace = Field(
        Path("output"),
        description="Folder of the JSONL files, may be a URL; tables, journals and locks lie in its `work`.",
    )
    local_work_dir: FilePath | None = Field(
        None,
        description="Folder of this machine for tables, journals and locks; unset is `work` in `output_dir`, "
        "or where that is a URL, a folder of its own in `~/.local/state/stage-a`.",
    )
    prometheus_dir: FilePath | None = Field(
        None,
        description="Folder of Prometheus text files, one per mission and device, kept up to date by a run; "
        "unset is `metrics` in the work folder where `telemetry.prometheus_port` is set.",
    )

    @property
    def work_dir(self) -> Path:
        """Folder of everything that is not a final result; always on this machine."""
        if self.local_work_dir is not None:
            return self.local_work_dir
        place = self.output_dir
        return place / "work" if isinstance(place, Path) else state_folder(place)

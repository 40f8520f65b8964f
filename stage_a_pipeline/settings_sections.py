"""The settings of each stage: one frozen class per section, with its defaults and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from stage_a_pipeline.vocabulary import Dataset

BUILTIN_CHECKPOINT: Final = "builtin"
"""Stands for the small demonstration checkpoint inside this package."""

DEFAULT_PROFILE: Final = "summary_runtime"
"""The packaged profile of prompt texts."""

DEFAULT_MAX_PIXELS: Final[Mapping[Dataset, int]] = {"bbu": 1_048_576, "rru": 2_097_152}


def _expanded(path: object) -> object:
    if not isinstance(path, str):
        return path
    if not path.strip():
        raise ValueError("a path must not be blank; leave the setting out instead")
    try:
        return Path(path).expanduser() if is_in_a_home(path) else Path(path)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def is_in_a_home(path: str) -> bool:
    """Whether a path begins with somebody's home folder; `~$` begins the name of an office program's mark."""
    return path.startswith("~") and not path.startswith("~$")


FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_expanded)]


class Section(BaseModel):
    """A section of the settings file: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DiscoverySettings(Section):
    """Where the photos are, and what may be followed there."""

    input_root: FilePath | None = Field(
        None, description="Folder that holds one folder per mission. Required."
    )
    missions_file: FilePath | None = Field(None, description="TOML file that adds or overrides missions.")
    allow_external_symlinks: bool = Field(
        False, description="Follow symbolic links that lead out of the input root."
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


class EngineSettings(Section):
    """The model, its devices, and how it generates."""

    engine: Literal["refill", "transformers", "fake"] = Field(
        "refill",
        description="`refill` runs a Qwen3-VL checkpoint in batches that are refilled while they run, "
        "`transformers` in static ones, `fake` needs no model.",
    )
    checkpoint: str = Field(
        BUILTIN_CHECKPOINT,
        min_length=1,
        description="Folder or hub id of a Qwen3-VL checkpoint in safetensors; `builtin` is the demo's.",
    )
    adapter: FilePath | None = Field(None, description="LoRA adapter folder, merged on load.")
    devices: tuple[Annotated[str, Field(pattern=r"^(cpu|cuda:(0|[1-9]\d*))$")], ...] = Field(
        ("cpu",), strict=False, min_length=1, description="One worker per entry: `cpu`, `cuda:0`, ..."
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        32, description="Photos under way at once on a device; `auto` is what its free memory has room for."
    )
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Prompt tokens, photos included, under way at once on a device; unset is no limit."
    )
    max_batch_pixels: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Pixels, as the model sees them, under way at once on a device; unset is no limit."
    )
    prefix_reuse: bool = Field(
        True, description="Compute the tokens before the photo once per mission; engine `refill` only."
    )
    cuda_graphs: bool = Field(
        True, description="Replay decoding steps as CUDA graphs; engine `refill` on a CUDA device only."
    )
    packed_weights: bool = Field(
        True, description="Lay weights out for oneDNN when they are loaded; on an x86-64 CPU only."
    )
    structured_output: bool = Field(
        False,
        description="Let the model write valid summaries only; needs the extra `grammar`. Engine `fake` has "
        "no use for it.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights in memory; auto is float32 on a CPU, bfloat16 on CUDA."
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Attention kernel of transformers."
    )
    max_pixels: Annotated[int, Field(ge=1024)] | None = Field(
        None, description="Pixels a photo keeps; unset is 1048576 for bbu and 2097152 for rru missions."
    )
    max_new_tokens: int = Field(1024, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0.0, le=5.0, description="0 decodes greedily; above 0 samples.")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus of sampling; used above temperature 0.")
    repetition_penalty: float = Field(1.05, gt=0.0, le=5.0, description="1.0 is none.")
    seed: int = Field(42, description="Seed of sampling; used above temperature 0.")
    verify_inputs: bool = Field(
        False, description="Record hash, size and image tokens of each shard's first batch, and check them."
    )
    fake_faults: FilePath | None = Field(
        None, description="TOML file with the faults that the fake engine plays; engine `fake` only."
    )

    @model_validator(mode="after")
    def _refill_brings_its_own_masks(self) -> EngineSettings:
        if self.engine == "refill" and self.attn_implementation != "sdpa":
            raise ValueError("engine 'refill' needs attn_implementation 'sdpa'; or use engine 'transformers'")
        return self

    @model_validator(mode="after")
    def _devices_share_a_dtype(self) -> EngineSettings:
        if len({self.dtype_on(device) for device in self.devices}) > 1:
            raise ValueError("cpu and cuda devices in one run need an explicit dtype: answers would differ")
        return self

    def dtype_on(self, device: str) -> str:
        """The torch dtype's name on that device, `auto` resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if device.startswith("cuda") else "float32"

    def max_pixels_for(self, dataset: Dataset) -> int:
        """The pixel limit of a photo of that dataset."""
        return self.max_pixels or DEFAULT_MAX_PIXELS[dataset]


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
        True, description="Whether each shard runs in a process of its own, which may crash or hang."
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


class FailReasonSettings(Section):
    """The reviewers' workbook. Columns are numbers from 0, or header names when `header` is true."""

    workbook: FilePath | None = Field(None, description="xlsx, xls or ods; unset passes records through.")
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

    truth: FilePath | None = Field(
        None, description="Truth sidecar (JSONL); unset is `truth.jsonl` in the input root, where it exists."
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

    output_dir: FilePath = Field(
        Path("output"), description="Folder of the JSONL files; tables, journals and locks lie in its `work`."
    )

    prometheus_dir: FilePath | None = Field(
        None, description="Folder of Prometheus text files, one per device, kept up to date by a run."
    )

    @property
    def work_dir(self) -> Path:
        """Folder of everything that is not a final result."""
        return self.output_dir / "work"

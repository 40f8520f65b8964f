"""The settings of Stage-B: which tickets it learns from, what it trains, and what must hold afterwards."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stage_a_pipeline.settings_paths import FilePath, FilePlace
from stage_a_pipeline.settings_sections import Section

DEFAULT_VERDICT_PROFILE = "verdict"
"""The packaged profile of Stage-B's prompt texts."""


class GrpoSettings(Section):
    """Stage-B: an adapter for verdicts on groups, trained by GRPO on the canonical JSONL."""

    files: tuple[FilePlace, ...] = Field(
        (), strict=False, description="Canonical JSONL files; unset takes those of `output_dir`."
    )
    missions: tuple[str, ...] = Field(
        (), strict=False, description="Missions to learn from; unset takes all in the files."
    )
    profile: str = Field(DEFAULT_VERDICT_PROFILE, description="Profile within Stage-B's prompt texts.")
    prompts_file: FilePath | None = Field(
        None, description="TOML file with own texts, in the form of prompts/stage_b.toml."
    )
    output_dir: FilePath | None = Field(
        None,
        description="Folder of this machine for adapter, training checkpoints and metrics; unset is "
        "`stage_b` in `output_dir`, or where that is a URL, in the work folder.",
    )
    held_out_fraction: float = Field(
        0.2, gt=0.0, lt=1.0, description="Share of group ids that are kept from training, per mission."
    )
    balance: Literal["none", "label"] = Field(
        "none", description="`label` repeats tickets of a mission's rarer label until both are as many."
    )
    seed: int = Field(
        42, ge=0, lt=1 << 32, description="Seed of the split, the order, the adapter and the sampling."
    )
    lora_last_k: int = Field(
        4,
        ge=1,
        description="Language blocks that get an adapter, the last ones; more than there are takes all.",
    )
    lora_rank: int = Field(8, ge=1, description="Rank of the adapter's matrices.")
    lora_alpha: int = Field(16, ge=1, description="Scale of the adapter, divided by the rank.")
    lora_dropout: float = Field(0.05, ge=0.0, lt=1.0, description="Dropout before the adapter.")
    num_generations: int = Field(4, ge=2, description="Answers per prompt that are compared with each other.")
    prompts_per_step: int = Field(
        1, ge=1, description="Prompts per device and forward pass; each with all its answers."
    )
    gradient_accumulation: int = Field(4, ge=1, description="Forward passes per step of the optimizer.")
    learning_rate: float = Field(5e-6, gt=0.0, lt=math.inf, description="Highest learning rate.")
    epochs: float = Field(3.0, gt=0.0, lt=math.inf, description="Passes over the training tickets.")
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Steps of the optimizer, instead of `epochs`."
    )
    warmup_steps: int = Field(100, ge=0, description="Steps over which the learning rate rises.")
    max_new_tokens: int = Field(128, ge=1, description="Tokens of an answer at most.")
    temperature: float = Field(0.7, gt=0.0, lt=math.inf, description="Of the answers to learn from.")
    top_p: float = Field(0.9, gt=0.0, le=1.0, description="Nucleus of the answers to learn from.")
    kl_weight: float = Field(
        0.0,
        ge=0.0,
        lt=math.inf,
        description="Weight of the distance from the checkpoint's own answers (TRL's beta).",
    )
    reward_weights: tuple[float, ...] = Field(
        (1.0, 0.2, 0.2), strict=False, description="Weights of label, format and consistency."
    )
    save_steps: int = Field(25, ge=1, description="Steps between two training checkpoints.")
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        ("tensorboard",), strict=False, description="Who also gets the metrics, beside `metrics.jsonl`."
    )
    rollouts: Literal["transformers", "vllm_server", "vllm_colocate"] = Field(
        "transformers", description="What writes the answers to learn from; vLLM through TRL, with its extra."
    )
    vllm_server_url: str = Field(
        "http://127.0.0.1:8000", description="Where `trl vllm-serve` listens; rollouts `vllm_server` only."
    )
    stage_a_photos: int = Field(
        200, ge=0, description="Held-out photos that are summarised with and without the adapter; 0 for none."
    )
    bootstrap_samples: int = Field(2000, ge=100, description="Samples behind each 95% interval.")
    min_format: float = Field(
        0.99, ge=0.0, le=1.0, description="Share of well-formed verdicts below which an asset check fails."
    )
    max_stage_a_drop: float = Field(
        0.01, ge=0.0, le=1.0, description="Loss of Stage-A quality above which an asset check fails."
    )

    @field_validator("reward_weights")
    @classmethod
    def _one_weight_per_reward(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if len(weights) != 3:
            raise ValueError(f"{len(weights)} weights for 3 rewards: label, format and consistency")
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError("weights are finite, 0 or more, and not all 0")
        return weights

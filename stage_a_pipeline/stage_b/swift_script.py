"""The command line with which ms-swift trains what our own trainer would, as a shell script."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.layers import LayerSelection

Dtype = Literal["bfloat16", "float32"]
"""What the weights of the checkpoint are in memory; those of the adapter are float32."""

REWARD_FUNCS: Final = ("stage_b_label", "stage_b_format", "stage_b_consistency")
"""The names under which the plugin registers the rewards, in the order of `GrpoSettings.reward_weights`."""
PLUGIN: Final = "plugin.py"
TRAIN: Final = "train.jsonl"
HELD_OUT: Final = "held_out.jsonl"
SCRIPT: Final = "train.sh"
OUTPUT: Final = "output"

TRL_DEFAULTS: Final = {
    "loss_type": "dapo",
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "adam_beta2": 0.999,
}
"""What TRL, and so our own training, has without being told, and ms-swift has not."""

_HEAD: Final = """\
#!/usr/bin/env bash
# Trains an adapter for verdicts with ms-swift 4.6. Arguments given to this script come last and win.
# SWIFT names the program where `swift` is not the one of ms-swift.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# The checkpoint is a folder of this machine: nothing is asked of a hub.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
exec "${SWIFT:-swift}" rlhf \\
"""


@dataclass(frozen=True, slots=True)
class SwiftModel:
    """The checkpoint's folder, its type, which ms-swift cannot tell by itself, and how it is loaded."""

    folder: Path
    model_type: str
    dtype: Dtype


def train_script(settings: GrpoSettings, *, model: SwiftModel, layers: LayerSelection) -> str:
    """The text of train.sh, which finds its files beside itself and passes its own arguments on."""
    lines = [*_of_files(), *_of_the_model(model), *_of_the_adapter(settings, layers), *_of_grpo(settings)]
    return _HEAD + "".join(f"  {line} \\\n" for line in lines) + '  "$@"\n'


def _of_files() -> Iterator[str]:
    yield _option("rlhf_type", "grpo")
    yield _beside("dataset", TRAIN)
    # Otherwise a prompt that is too long loses its beginning, the judge's task, without a word.
    yield _option("truncation_strategy", "delete")
    yield _beside("external_plugins", PLUGIN)
    yield _beside("output_dir", OUTPUT)
    yield _option("add_version", "false")


def _of_the_model(model: SwiftModel) -> Iterator[str]:
    yield _option("model", model.folder)
    yield _option("model_type", model.model_type)
    # It looks for a newer version at the hub.
    yield _option("check_model", "false")
    yield _option("use_hf", "true")
    yield _option("torch_dtype", model.dtype)
    yield _option("bf16", "true" if model.dtype == "bfloat16" else "false")
    # ms-swift takes float32 for a wish for mixed precision in float16.
    yield _option("fp16", "false")


def _of_the_adapter(settings: GrpoSettings, layers: LayerSelection) -> Iterator[str]:
    yield _option("tuner_type", "lora")
    yield _option("target_regex", layers.target_regex)
    yield _option("freeze_vit", "true")
    yield _option("freeze_aligner", "true")
    yield _option("lora_rank", settings.lora_rank)
    yield _option("lora_alpha", settings.lora_alpha)
    yield _option("lora_dropout", settings.lora_dropout)


def _of_grpo(settings: GrpoSettings) -> Iterator[str]:
    yield _option("reward_funcs", *REWARD_FUNCS)
    yield _option("reward_weights", *settings.reward_weights)
    yield _option("num_generations", settings.num_generations)
    # ms-swift counts answers, not prompts.
    yield _option("per_device_train_batch_size", settings.prompts_per_step * settings.num_generations)
    yield _option("gradient_accumulation_steps", settings.gradient_accumulation)
    yield _option("learning_rate", settings.learning_rate)
    yield _option("warmup_steps", settings.warmup_steps)
    if settings.max_steps is None:
        yield _option("num_train_epochs", settings.epochs)
    else:
        yield _option("max_steps", settings.max_steps)
    yield _option("max_completion_length", settings.max_new_tokens)
    yield _option("temperature", settings.temperature)
    yield _option("top_p", settings.top_p)
    yield _option("beta", settings.kl_weight)
    for name, value in TRL_DEFAULTS.items():
        yield _option(name, value)
    yield _option("seed", settings.seed)
    yield _option("data_seed", settings.seed)
    yield _option("save_steps", settings.save_steps)
    yield _option("logging_steps", 1)
    yield _option("log_completions", "true")
    yield _option("report_to", *(settings.trackers or ("none",)))
    yield from _of_vllm(settings)


def _of_vllm(settings: GrpoSettings) -> Iterator[str]:
    match settings.rollouts:
        case "transformers":
            return
        case "vllm_colocate":
            yield _option("use_vllm", "true")
            yield _option("vllm_mode", "colocate")
        case "vllm_server":
            yield _option("use_vllm", "true")
            yield _option("vllm_mode", "server")
            yield _option("vllm_server_base_url", settings.vllm_server_url)


def _option(name: str, *values: object) -> str:
    return " ".join((f"--{name}", *(shlex.quote(str(value)) for value in values)))


def _beside(name: str, file: str) -> str:
    return f'--{name} "$here"/{file}'

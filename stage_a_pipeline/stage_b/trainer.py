"""TRL's GRPO trainer, set up from our settings, and what it tells about its steps."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from stage_a_pipeline.errors import EngineOutOfMemoryError, OutputError, TrainingError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.dataset import tickets_to_dataset
from stage_a_pipeline.stage_b.layers import LayerSelection
from stage_a_pipeline.stage_b.material import Material
from stage_a_pipeline.stage_b.rewards import VERDICT_REWARDS, Reward
from stage_a_pipeline.stage_b.run_folder import RunFolder
from stage_a_pipeline.stage_b.training import TrainingAudience
from stage_a_pipeline.storage import ensure_folder, output_errors

_KEPT_CHECKPOINTS = 2
"""The newest may be the one that a kill has cut."""

_TORCH_WRITERS = ("PytorchStreamWriter", "inline_container.cc")
_STEADIER = "lower grpo.learning_rate, or raise grpo.warmup_steps or grpo.kl_weight"

TrlReward = Callable[..., list[float | None]]


def build_trainer(
    model: Any,
    tokenizer: Any,
    selection: LayerSelection,
    settings: Settings,
    material: Material,
    folder: RunFolder,
    audience: TrainingAudience,
) -> GRPOTrainer:
    """The trainer for the model's selected blocks; everything else of it is frozen."""
    grpo = settings.grpo
    trainer = _Trainer(
        model=model,
        args=grpo_config(settings, folder),
        reward_funcs=[*reward_functions()],
        train_dataset=tickets_to_dataset(
            material.train,
            missions=material.missions,
            profile=grpo.profile,
            prompts_file=grpo.prompts_file,
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=grpo.lora_rank,
            lora_alpha=grpo.lora_alpha,
            lora_dropout=grpo.lora_dropout,
            target_modules=selection.target_regex,
        ),
        callbacks=[_Steps(folder, audience)],
    )
    # It would print every step to standard output.
    trainer.remove_callback(PrinterCallback)
    return trainer


def grpo_config(settings: Settings, folder: RunFolder) -> GRPOConfig:
    """Our settings in TRL's words."""
    grpo = settings.grpo
    dtype = settings.engine.dtype_on(settings.engine.devices[0])
    on_cpu = settings.engine.devices[0].startswith("cpu")
    vllm: dict[str, Any] = {}
    if grpo.rollouts != "transformers":
        vllm = {"use_vllm": True, "vllm_mode": grpo.rollouts.removeprefix("vllm_")}
    if grpo.rollouts == "vllm_server":
        vllm["vllm_server_base_url"] = grpo.vllm_server_url
    # transformers' callback takes the folder from nowhere else.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.tensorboard)
    return GRPOConfig(
        output_dir=str(folder.checkpoints),
        per_device_train_batch_size=grpo.prompts_per_step * grpo.num_generations,
        gradient_accumulation_steps=grpo.gradient_accumulation,
        num_generations=grpo.num_generations,
        max_completion_length=grpo.max_new_tokens,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        learning_rate=grpo.learning_rate,
        num_train_epochs=grpo.epochs,
        max_steps=grpo.max_steps or -1,
        warmup_steps=grpo.warmup_steps,
        beta=grpo.kl_weight,
        reward_weights=list(grpo.reward_weights),
        seed=grpo.seed,
        use_cpu=on_cpu,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        # Less memory for more time: what a GPU needs, and a CPU does not.
        gradient_checkpointing=not on_cpu,
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        # It would log 0 for a loss that is not finite.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=grpo.save_steps,
        save_total_limit=_KEPT_CHECKPOINTS,
        report_to=list(grpo.trackers) or "none",
        run_name=folder.key,
        disable_tqdm=True,
        **vllm,
    )


def reward_functions() -> list[TrlReward]:
    """The rewards in the order of their weights, for completions as TRL has them: lists of messages."""
    return [_unwrapping(name, reward) for name, reward in VERDICT_REWARDS.items()]


def run_trainer(
    trainer: GRPOTrainer, folder: RunFolder, last: Path | None, audience: TrainingAudience
) -> int:
    """Train to the end, from the last checkpoint if there is one; returns the number of steps."""
    if trainer.is_world_process_zero():
        ensure_folder(folder.checkpoints)
        step = int(last.name.rpartition("-")[2]) if last is not None else 0
        folder.forget_steps_after(step)
        if last is not None:
            audience.notice(f"the training goes on after step {step}, from {last}")
    trainer.accelerator.wait_for_everyone()
    last = folder.last_checkpoint()
    trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    steps: int = trainer.state.global_step
    return steps


class _Trainer(GRPOTrainer):  # type: ignore[misc, unused-ignore]
    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return _OrderOfEpoch(super()._get_train_sampler(dataset), lambda: int(self.state.epoch or 0))


class _OrderOfEpoch(Sampler[int]):
    """TRL's order of prompts, drawn from the seed and the epoch alone.

    TRL draws each epoch's order after that of the one before. A training that goes on in its second epoch
    would take the order of the first.
    """

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self._sampler = sampler
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator.manual_seed(self._sampler.seed + self._epoch())
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)


class _Steps(TrainerCallback):
    """Writes a line per step, marks whole checkpoints, and tells of progress; in the main process alone."""

    def __init__(self, folder: RunFolder, audience: TrainingAudience) -> None:
        self._folder = folder
        self._audience = audience

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See TrainerCallback."""
        if not state.is_world_process_zero:
            return
        self._audience.progress(state.global_step, state.max_steps)
        if args.warmup_steps >= state.max_steps:
            self._audience.notice(
                f"grpo.warmup_steps is {args.warmup_steps}, and there are {state.max_steps} steps in all: "
                "the learning rate never reaches grpo.learning_rate"
            )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See TrainerCallback."""
        logs: Mapping[str, Any] = kwargs["logs"]
        # The last log tells of the whole training.
        if not state.is_world_process_zero or "reward" not in logs:
            return
        line = {"step": state.global_step, **{name: _finite(value) for name, value in logs.items()}}
        with output_errors(self._folder.metrics), self._folder.metrics.open("ab") as file:
            file.write((json.dumps(line, allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self._audience.progress(state.global_step, state.max_steps)
        # In float16, gradients that overflow are skipped, and scaled down for the next step.
        for name in ("loss",) if args.fp16 else ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise TrainingError(
                    f"training diverged at step {state.global_step}: {name} is not finite; {_STEADIER}"
                )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See TrainerCallback."""
        # Each process writes a file of its own into the checkpoint.
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            self._folder.mark_whole(state.global_step)


def _unwrapping(name: str, reward: Reward) -> TrlReward:
    def unwrapped(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return list(reward([_text_of(completion) for completion in completions], **columns))

    # TRL logs a reward under its function's name.
    unwrapped.__name__ = name
    return unwrapped


def _text_of(completion: Any) -> str:
    text: str = completion if isinstance(completion, str) else completion[-1]["content"]
    return text


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def clear_errors(folder: RunFolder) -> Iterator[None]:
    """Errors of libraries as ours, which tell of a full disk in many ways.

    OutputError where the disk is full, EngineOutOfMemoryError where the device is; both leave checkpoints
    from which the next run goes on. TrainingError where the model's own numbers left the finite ones.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineOutOfMemoryError(
            f"the device has no room for this training: {error}; lower grpo.prompts_per_step, "
            "grpo.num_generations or grpo.max_new_tokens, and run again: it goes on after its last checkpoint"
        ) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if str(error).startswith("probability tensor contains"):
            raise TrainingError(
                f"training diverged: the model gives probabilities that are not finite; {_STEADIER}"
            ) from error
        if not _is_full(folder.path, error):
            raise
        raise OutputError(
            f"{folder.path} cannot be written: {os.strerror(errno.ENOSPC)}; free some space and run again: "
            "the training goes on after its last checkpoint"
        ) from error


def _is_full(folder: Path, error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    room = os.statvfs(folder)
    # torch (by its file inline_container.cc) and safetensors say only that writing failed.
    wrote = isinstance(error, SafetensorError) or any(name in str(error) for name in _TORCH_WRITERS)
    return wrote and room.f_bavail * room.f_frsize < 1 << 20

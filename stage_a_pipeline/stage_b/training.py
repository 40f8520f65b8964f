"""One training, from tickets to an adapter: begun, or gone on with where a killed one stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.engines.checkpoint import Checkpoint, resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor, load_weights
from stage_a_pipeline.errors import ConfigurationError, InputError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.answers import require_context, require_model
from stage_a_pipeline.stage_b.frozen_weights import hash_parts, require_unchanged, trainable_names
from stage_a_pipeline.stage_b.layers import LayerSelection, select_last_blocks
from stage_a_pipeline.stage_b.material import Material
from stage_a_pipeline.stage_b.run_folder import RunFolder, read_record, write_record
from stage_a_pipeline.storage import claim_output

_NAMES_PER_LINE: Final = 10

_NOT_TRAINED: Final = frozenset(
    {
        "files",
        "missions",
        "profile",
        "prompts_file",
        "output_dir",
        "held_out_fraction",
        "balance",
        "save_steps",
        "trackers",
        "vllm_server_url",
        "stage_a_photos",
        "bootstrap_samples",
        "min_format",
        "max_stage_a_drop",
    }
)
"""Settings that shape the tickets, which count themselves, or nothing of the training."""


@dataclass(frozen=True, slots=True)
class TrainingAudience:
    """Who is told: `notice` what people should know, `log` the rest, `progress` steps done of all."""

    notice: Callable[[str], None]
    log: Callable[[str], None]
    progress: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter, at the path where the last trained one lies, and the folder of its training."""

    adapter: Path
    folder: RunFolder
    record: Mapping[str, Any]


def train_adapter(
    settings: Settings, material: Material, audience: TrainingAudience, *, run_id: str
) -> Trained:
    """Train the adapter that settings and tickets ask for, unless it is there already.

    Every process of a distributed training calls this. Raises ConfigurationError and CheckpointError for
    what cannot be trained, InputError for too few tickets, LockedError while another run trains,
    OutputError where the disk is full, EngineOutOfMemoryError and TrainingError.
    """
    checkpoint = require_trainable(settings)
    require_devices(settings)
    require_whole_step(settings, material)
    description = describe_training(settings, material, checkpoint)
    folder = training_folder(settings, description)
    with claim_training(settings, run_id=run_id):
        if (folder.adapter / "adapter_model.safetensors").exists():
            audience.notice(
                f"this training has ended before: {folder.adapter}; the same checkpoint, tickets and "
                "settings give the same adapter"
            )
        else:
            _train(settings, material, checkpoint, folder, description, audience)
        return Trained(folder.offer(), folder, read_record(folder.adapter))


def claim_training(settings: Settings, *, run_id: str) -> AbstractContextManager[None]:
    """Claim Stage-B's folder for all processes of this run; LockedError names another that trains there."""
    return claim_output(
        settings.stage_b_dir,
        "training",
        run_id=run_id,
        purpose="train an adapter",
        what="the adapter of Stage-B",
    )


def require_trainable(settings: Settings) -> Checkpoint:
    """The checkpoint to train on. ConfigurationError for settings that leave none."""
    require_model(settings.engine, remedy="to train one, ")
    if len({device.partition(":")[0] for device in settings.engine.devices}) > 1:
        raise ConfigurationError(
            f"engine.devices is {', '.join(settings.engine.devices)}, and one training cannot be on both: "
            "leave out one kind"
        )
    if settings.engine.adapter is not None:
        raise ConfigurationError(
            f"engine.adapter is {settings.engine.adapter}, and Stage-B trains an adapter of the checkpoint "
            "itself: unset it, or merge it into a checkpoint (PEFT's merge_and_unload, then save_pretrained)"
        )
    return resolve_checkpoint(settings.engine.checkpoint)


def require_whole_step(settings: Settings, material: Material) -> None:
    """InputError for fewer tickets than a step takes: TRL would end after no step at all."""
    grpo, processes = settings.grpo, len(settings.engine.devices)
    needed = grpo.prompts_per_step * grpo.gradient_accumulation * processes
    if len(material.train) < needed:
        raise InputError(
            f"a step takes {needed} tickets (grpo.prompts_per_step {grpo.prompts_per_step}, "
            f"grpo.gradient_accumulation {grpo.gradient_accumulation}, devices {processes}), and there are "
            f"{len(material.train)} to learn from; give more files (grpo.files, --data) or lower these"
        )


def training_folder(settings: Settings, description: Mapping[str, object]) -> RunFolder:
    """The folder of the training of that description, and of no other."""
    told = json.dumps(description, ensure_ascii=False, sort_keys=True)
    return RunFolder(settings.stage_b_dir, sha256(told.encode()).hexdigest()[:16])


def describe_training(settings: Settings, material: Material, checkpoint: Checkpoint) -> dict[str, object]:
    """What decides which adapter comes out, as plain JSON data."""
    device = settings.engine.devices[0]
    return {
        "checkpoint": checkpoint.content_hash(),
        "tickets": material.content_hash(),
        "settings": settings.grpo.model_dump(mode="json", exclude=set(_NOT_TRAINED)),
        "dtype": settings.engine.dtype_on(device),
        "processes": len(settings.engine.devices),
    }


def _train(
    settings: Settings,
    material: Material,
    checkpoint: Checkpoint,
    folder: RunFolder,
    description: Mapping[str, object],
    audience: TrainingAudience,
) -> None:
    from stage_a_pipeline.stage_b.trainer import build_trainer, clear_errors, run_trainer

    model, selection = _load(settings, checkpoint, audience)
    tokenizer = load_processor(checkpoint).tokenizer
    require_context(model, tokenizer, material.prompts(material.train), settings.grpo.max_new_tokens)
    before = hash_parts(model.named_parameters())
    with clear_errors(folder):
        trainer = build_trainer(model, tokenizer, selection, settings, material, folder, audience)
        is_main = trainer.is_world_process_zero()
        last = folder.last_checkpoint() if is_main else None
        trained = trainer.accelerator.unwrap_model(trainer.model)
        names = trainable_names(trained.named_parameters())
        if is_main:
            folder.describe(description)
            audience.log(f"{len(names)} trainable parameters:")
            # A few at a time: lines of several processes are whole only while they are short.
            for first in range(0, len(names), _NAMES_PER_LINE):
                audience.log("  " + ", ".join(names[first : first + _NAMES_PER_LINE]))
        steps = run_trainer(trainer, folder, last, audience)
        after = hash_parts(trained.named_parameters())
        require_unchanged(before, after)
        if is_main:
            record = {
                "checkpoint": description["checkpoint"],
                "training": folder.key,
                "steps": steps,
                "blocks": list(selection.blocks),
                "depth": selection.depth,
                "trainable": list(names),
                "frozen_before": before,
                "frozen_after": after,
                "settings": settings.grpo.model_dump(mode="json"),
                "tickets": material.to_mapping(),
            }
            _keep(trained, record, material, folder)
    trainer.accelerator.wait_for_everyone()


def _keep(trained: Any, record: Mapping[str, object], material: Material, folder: RunFolder) -> None:
    with folder.new_adapter() as path:
        trained.save_pretrained(str(path))
        # PEFT's model card tells of paths of this machine, and nothing else.
        (path / "README.md").unlink(missing_ok=True)
        write_record(path, record, (ticket.group_id for ticket in material.train))


def require_devices(settings: Settings) -> None:
    """ConfigurationError where a trainer would find fewer GPUs, and go on with those, or on a CPU."""
    import torch

    devices = settings.engine.devices
    if devices[0].startswith("cuda") and (count := torch.cuda.device_count()) < len(devices):
        raise ConfigurationError(
            f"engine.devices is {', '.join(devices)}, and {count} of them can be used; correct it "
            "(STAGE_A_DEVICES)"
        )


def _load(
    settings: Settings, checkpoint: Checkpoint, audience: TrainingAudience
) -> tuple[Any, LayerSelection]:
    import torch

    dtype = getattr(torch, settings.engine.dtype_on(settings.engine.devices[0]))
    model = load_weights(
        checkpoint,
        torch.device("cpu"),
        dtype,
        attn_implementation=settings.engine.attn_implementation,
    )
    selection = select_last_blocks((name for name, _ in model.named_modules()), settings.grpo.lora_last_k)
    if settings.grpo.lora_last_k > selection.depth:
        audience.notice(
            f"grpo.lora_last_k is {settings.grpo.lora_last_k}, and the model has {selection.depth} language "
            "blocks: all of them get an adapter"
        )
    return model, selection

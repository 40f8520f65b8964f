"""What a checkpoint's config.json describes, without its weights."""

from __future__ import annotations

from dataclasses import dataclass

from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Architecture:
    """The model's type, as transformers and ms-swift call it, and the names of its modules in their order."""

    model_type: str
    module_names: tuple[str, ...]


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """The checkpoint's architecture; CheckpointError where transformers cannot build that model."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForImageTextToText

    folder = str(checkpoint.folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # Nothing is allocated there, whatever the model's size.
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, StrictDataclassError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint {folder}: its config.json describes no model that can be built: {first_line}; "
            "give a complete Qwen3-VL checkpoint"
        ) from error
    return Architecture(config.model_type, tuple(name for name, _ in model.named_modules() if name))

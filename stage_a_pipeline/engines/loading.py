"""Loading of a Qwen3-VL checkpoint: its processor without torchvision, its weights, an adapter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.errors import CheckpointError
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch

FILLER_TOKEN: Final = "<|im_start|>"
"""What pads a prompt: a token that stands in every prompt. transformers' repetition penalty also counts
padding, and would otherwise treat padded rows differently."""


def load_processor(checkpoint: Checkpoint) -> Any:
    """Qwen3-VL's processor for photos and text, padding on the left.

    The Pillow image processor is used with or without torchvision, so that every machine prepares
    the same pixels; the video processor, which needs torchvision, is left out.
    """
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class ImageTextProcessor(Qwen3VLProcessor):  # type: ignore[misc, unused-ignore]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
        ) -> None:
            for kind in ("image", "video"):
                setattr(self, f"{kind}_token", f"<|{kind}_pad|>")
                setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>"))
            for end in ("start", "end"):
                setattr(self, f"vision_{end}_token", f"<|vision_{end}|>")
                setattr(self, f"vision_{end}_token_id", tokenizer.convert_tokens_to_ids(f"<|vision_{end}|>"))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    folder = str(checkpoint.folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        image_processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: its tokenizer or image processor does not load: {error}"
        ) from error
    if tokenizer.chat_template is None:
        raise CheckpointError(f"checkpoint {folder} has no chat template; add its chat_template.jinja")
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    tokenizer.pad_token = FILLER_TOKEN
    return ImageTextProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)


def load_model(
    checkpoint: Checkpoint, settings: EngineSettings, device: torch.device, dtype: torch.dtype
) -> Any:
    """The checkpoint's model as it is fastest to ask."""
    model = load_weights(checkpoint, device, dtype, attn_implementation=settings.attn_implementation)
    _embed_patches_by_matrix(model)
    if device.type == "cpu" and settings.packed_weights:
        from stage_a_pipeline.engines.packed_linear import pack_linear_layers

        pack_linear_layers(model)
    return model


def load_weights(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, attn_implementation: str
) -> Any:
    """transformers' own model with the checkpoint's weights, an adapter merged into them.

    CheckpointError for weights that do not load, or are not all there.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    # Its bar would break the run's own; the log says what is loading.
    logging.disable_progress_bar()
    load: Any = AutoModelForImageTextToText.from_pretrained
    try:
        model, report = load(
            str(checkpoint.folder),
            dtype=dtype,
            attn_implementation=attn_implementation,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        if checkpoint.adapter is not None:
            model = _merge_adapter(model, checkpoint.adapter)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {checkpoint.folder} does not load: {error}") from error
    # transformers fills what is missing with random weights and goes on.
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder} lacks {len(missing)} weights, such as {missing[0]}; "
            "give a complete checkpoint"
        )
    return model


def _embed_patches_by_matrix(model: Any) -> None:
    """Replace the patch embedding's convolution by the matrix product that it is.

    Kernel and stride are equal, so every patch is multiplied once; torch's general convolution is
    several times slower at that.
    """
    import torch

    class PatchMatrix(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = linear

        @property
        def weight(self) -> torch.Tensor:
            # The model asks it for its type.
            return self.linear.weight

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            flat: torch.Tensor = self.linear(patches.flatten(1))
            return flat

    embedding = model.model.visual.patch_embed
    convolution = embedding.proj
    assert convolution.kernel_size == convolution.stride, "patches of Qwen3-VL do not overlap"
    weight, bias = convolution.weight.detach().flatten(1), convolution.bias
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    linear.weight.data, linear.bias.data = weight, bias.detach()
    embedding.proj = PatchMatrix(linear)


def _merge_adapter(model: Any, adapter: Path) -> Any:
    try:
        from peft import LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError as error:
        raise CheckpointError(
            "a LoRA adapter is set but peft is not installed: pip install '.[lora]' in the project's folder"
        ) from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = PeftConfig.from_pretrained(str(adapter))
    if not isinstance(config, LoraConfig):
        raise CheckpointError(f"adapter {adapter} is of type {config.peft_type}; only LoRA is merged")
    try:
        weights = load_file(str(adapter / "adapter_model.safetensors"))
        with warnings.catch_warnings():
            # PEFT asks for it, and transformers has renamed it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted = get_peft_model(model, config)
        report: Any = set_peft_model_state_dict(adapted, weights)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"adapter {adapter} does not fit the checkpoint: {error}") from error
    # peft leaves weights that it does not find at their start values, without an error.
    strange = [*report.unexpected_keys, *(key for key in report.missing_keys if "lora_" in key)]
    if strange:
        raise CheckpointError(
            f"adapter {adapter} does not fit the checkpoint: {len(strange)} weights such as {strange[0]} "
            "have no counterpart; use an adapter that was trained on this checkpoint"
        )
    return adapted.merge_and_unload()


def usable_device(device: str) -> torch.device:
    import torch

    if device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(device.partition(":")[2]) >= count:
            raise CheckpointError(
                f"device {device} is not there: {count} CUDA devices are visible; correct engine.devices "
                "(STAGE_A_DEVICES)"
            )
    return torch.device(device)

"""The demonstration model: a Qwen3-VL of 3.2 million parameters, and its checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.demo.training.tokenizer import IMAGE_END, IMAGE_START, MAX_LENGTH, TEXT_END, TURN_END
from stage_a_pipeline.storage import atomic_write

PATCH_SIDE: Final = 16
MERGE: Final = 2
CELL: Final = PATCH_SIDE * MERGE
"""Side, in pixels, of the picture's part that becomes one token."""

MIN_PIXELS, MAX_PIXELS = 40_000, 53_248
"""The pixel budget: about 256x192, 45 to 49 tokens a photo."""

VISION_SHAPE: Final = {"depth": 5, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4}
LANGUAGE_SHAPE: Final = {
    "hidden_size": 160,
    "intermediate_size": 448,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 32,
}
DEEPSTACK_LAYERS: Final = [1]
MAX_NEW_TOKENS: Final = 256


def build_model(tokenizer: Any) -> Any:
    """An untrained Qwen3VLForConditionalGeneration in fp32 that fits the tokenizer."""
    from torch.nn.init import zeros_
    from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    token_id = tokenizer.convert_tokens_to_ids
    end, pad = token_id(TURN_END), token_id(TEXT_END)
    config = Qwen3VLConfig(
        text_config=_text_config(len(tokenizer), end, pad),
        vision_config=_vision_config(),
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id(IMAGE_START),
        vision_end_token_id=token_id(IMAGE_END),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=MAX_NEW_TOKENS, eos_token_id=[end, pad], pad_token_id=pad
    )
    # The side path of the vision features starts silent, so that training may ignore it at first.
    for merger in model.model.visual.deepstack_merger_list:
        zeros_(merger.linear_fc2.weight)
        zeros_(merger.linear_fc2.bias)
    return model


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the folder that `from_pretrained` reads: bf16 safetensors, tokenizer, processors."""
    import torch

    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _image_processor_settings())
    _write_json(folder / "video_preprocessor_config.json", _video_processor_settings())
    for path in folder.iterdir():
        # safetensors writes 0600, which an installed package could not be read with.
        path.chmod(0o644)


def _text_config(tokens: int, end: int, pad: int) -> dict[str, Any]:
    half = LANGUAGE_SHAPE["head_dim"] // 2
    side = half * 5 // 16
    return {
        **LANGUAGE_SHAPE,
        "vocab_size": (tokens + 63) // 64 * 64,
        "max_position_embeddings": MAX_LENGTH,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "pad_token_id": pad,
        "bos_token_id": None,
        "eos_token_id": end,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [half - 2 * side, side, side],
            "mrope_interleaved": True,
        },
    }


def _vision_config() -> dict[str, Any]:
    return {
        **VISION_SHAPE,
        "patch_size": PATCH_SIDE,
        "temporal_patch_size": 2,
        "spatial_merge_size": MERGE,
        "in_channels": 3,
        "out_hidden_size": LANGUAGE_SHAPE["hidden_size"],
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": DEEPSTACK_LAYERS,
    }


def _image_processor_settings() -> dict[str, Any]:
    return {
        **_patch_settings(),
        "size": {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS},
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }


def _video_processor_settings() -> dict[str, Any]:
    return {
        **_patch_settings(),
        "size": {"shortest_edge": 4096, "longest_edge": 25165824},
        "video_processor_type": "Qwen3VLVideoProcessor",
    }


def _patch_settings() -> dict[str, Any]:
    return {
        "processor_class": "Qwen3VLProcessor",
        "patch_size": PATCH_SIDE,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(document, file, indent=2)
        file.write("\n")

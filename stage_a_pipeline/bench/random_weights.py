"""A Qwen3-VL checkpoint folder of random weights, in a chosen shape, whose answers never end by themselves.

All engines must do the same work, so answers have lengths that are given. The head is therefore its own
matrix, in which only tokens that are Chinese words have weights: all others, stop tokens among them, get a
logit of exactly 0, which is never the largest of hundreds. In Qwen3-VL-4B the head is the transposed
embedding; a matrix of its own costs the same time per step.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.bench.shapes import ModelShape, Shape
from stage_a_pipeline.engines.checkpoint import Checkpoint, resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor, usable_device

_TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_LONGEST_PROMPT: Final = 8192


def write_checkpoint(shape: Shape, folder: Path, *, device: str, dtype: str, seed: int) -> Checkpoint:
    """Write the folder that `from_pretrained` reads; weights are drawn on `device`, in `dtype`.

    It has the built-in checkpoint's tokenizer, and takes the shape's photos without resizing them. Raises
    OSError.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.utils import logging

    assert shape.model is not None
    folder.mkdir(parents=True)
    builtin = resolve_checkpoint("builtin").folder
    for name in _TOKENIZER_FILES:
        shutil.copy(builtin / name, folder)
    _write_preprocessor(shape, builtin, folder)
    tokenizer = load_processor(Checkpoint(builtin)).tokenizer
    config = Qwen3VLConfig(**model_config(shape.model, tokenizer))
    torch.manual_seed(seed)
    former = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(usable_device(device)):
            model = Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(former)
    _silence_all_but(model.lm_head.weight, chinese_words(tokenizer))
    model.generation_config = GenerationConfig(do_sample=False)
    # Its bar would stand between the lines of the benchmark.
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise _disk_error(error) from error
    del model
    if device.startswith("cuda"):
        # This process goes on while others measure what the device has room for.
        torch.cuda.empty_cache()
    return resolve_checkpoint(str(folder))


def _disk_error(error: Exception) -> OSError:
    """What safetensors, which writes by itself, says of the disk."""
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))


def chinese_words(tokenizer: Any) -> list[int]:
    """Ids of tokens that are whole Chinese characters: whatever follows whatever, the text is sound."""
    special = set(tokenizer.added_tokens_decoder)
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer)) if token not in special}
    return [
        token for token, text in texts.items() if text and all("\u4e00" <= mark <= "\u9fff" for mark in text)
    ]


def model_config(shape: ModelShape, tokenizer: Any) -> dict[str, Any]:
    """The arguments of Qwen3VLConfig."""
    text, vision = shape.text, shape.vision
    assert text.vocabulary >= len(tokenizer)
    token_id = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {
            "vocab_size": text.vocabulary,
            "hidden_size": text.hidden,
            "intermediate_size": text.intermediate,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_dim,
            "max_position_embeddings": _LONGEST_PROMPT,
            "rms_norm_eps": 1e-6,
            "pad_token_id": token_id("<|endoftext|>"),
            "bos_token_id": None,
            "eos_token_id": token_id("<|im_end|>"),
            "initializer_range": _spread(text.hidden),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": text.rope_theta,
                "mrope_section": list(text.mrope_section),
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "hidden_size": vision.hidden,
            "intermediate_size": vision.intermediate,
            "depth": vision.depth,
            "num_heads": vision.heads,
            "deepstack_visual_indexes": list(vision.deepstack),
            "num_position_embeddings": vision.positions,
            "out_hidden_size": text.hidden,
            "patch_size": vision.patch,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": vision.frames,
            "in_channels": 3,
            "initializer_range": _spread(vision.hidden),
        },
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _spread(hidden: int) -> float:
    """Deviation of the weights. With the usual 0.02 a narrow model says one word, whatever it is shown."""
    return 1.1 / math.sqrt(hidden)


def _silence_all_but(head: Any, words: Sequence[int]) -> None:
    """Zero the rows of the head [vocabulary, size] of all other tokens."""
    import torch

    with torch.no_grad():
        kept = head[list(words)].clone()
        head.zero_()
        head[list(words)] = kept


def _write_preprocessor(shape: Shape, builtin: Path, folder: Path) -> None:
    """The built-in image processor's settings, with a pixel range that holds the shape's photos."""
    settings = json.loads((builtin / "preprocessor_config.json").read_text("utf-8"))
    pixels = [width * height for width, height in shape.sizes]
    settings["size"] = {"shortest_edge": min(pixels), "longest_edge": max(pixels)}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), "utf-8")

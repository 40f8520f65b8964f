"""Which layers an adapter may change: the projections of the last blocks that write, nothing that looks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.errors import CheckpointError, ConfigurationError

_BLOCKS: Final = r"(?:.*\.)?language_model\.layers\."
_PROJECTIONS: Final = r"\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
"""Qwen3-VL's own linear layers. The experts of a mixture are one fused parameter, and no layers."""
_LANGUAGE: Final = re.compile(rf"{_BLOCKS}(\d+){_PROJECTIONS}")


@dataclass(frozen=True, slots=True)
class LayerSelection:
    """The language blocks that get an adapter, of `depth` there are.

    `target_regex` is what PEFT and ms-swift match with whole module names; it matches `modules` and no
    other of the tree.
    """

    blocks: tuple[int, ...]
    depth: int
    target_regex: str
    modules: tuple[str, ...]


def select_last_blocks(names: Iterable[str], last_k: int) -> LayerSelection:
    """The last `last_k` language blocks of a Qwen3-VL by the names of its modules; all, if it has fewer.

    ConfigurationError for less than one block, CheckpointError for names without language blocks.
    """
    if last_k < 1:
        raise ConfigurationError(f"grpo.lora_last_k is {last_k}; an adapter needs at least 1 block")
    found = [(name, int(match[1])) for name in names if (match := _LANGUAGE.fullmatch(name))]
    numbers = sorted({block for _, block in found})
    if not numbers:
        raise CheckpointError(
            "the model has no blocks under language_model.layers with projections of Qwen3-VL; "
            "give a Qwen3-VL checkpoint (engine.checkpoint)"
        )
    blocks = tuple(numbers[-last_k:])
    return LayerSelection(
        blocks=blocks,
        depth=len(numbers),
        target_regex=f"{_BLOCKS}(?:{'|'.join(map(str, blocks))}){_PROJECTIONS}",
        modules=tuple(name for name, block in found if block in blocks),
    )

"""The model's arithmetic for training: one picture size per batch, so that everything is batched.

The results are those of transformers' own forward pass, which handles pictures of any size row by
row; attention as plain matrix products is several times faster in bf16 on a CPU.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

_MASKED = -1e9


def vision_features(
    model: Any, patches: torch.Tensor, grid: tuple[int, int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Features per cell [rows, cells, width] and those of the deepstack layers.

    `patches` is [rows, patches, values]; `grid` counts patches (rows, columns) of one picture.
    """
    visual = model.model.visual
    indices, weights, cosine, sine = _vision_positions(visual, grid)
    rows, count, _ = patches.shape
    # A still picture fills both frames of the patch convolution with the same pixels.
    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)
    states = functional.linear(patches, kernel, visual.patch_embed.proj.bias)
    states = states + (visual.pos_embed(indices) * weights[:, :, None]).sum(1)
    stacked = []
    for index, block in enumerate(visual.blocks):
        states = states + _attend(block.attn, block.norm1(states), cosine, sine)
        states = states + block.mlp(block.norm2(states))
        if index in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[list(visual.deepstack_visual_indexes).index(index)]
            stacked.append(merger(states.view(rows * count, -1)).view(rows, count // 4, -1))
    return visual.merger(states.view(rows * count, -1)).view(rows, count // 4, -1), stacked


def language_states(
    model: Any,
    tokens: torch.Tensor,
    *,
    features: torch.Tensor | None = None,
    stacked: list[torch.Tensor] | None = None,
    image_start: int = 0,
    grid: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """Last hidden states [rows, length, width] of right-padded rows, with or without a photo's features."""
    language = model.model.language_model
    states = language.embed_tokens(tokens)
    length, device = tokens.shape[1], tokens.device
    image_end = image_start
    if features is None:
        positions = torch.arange(length, device=device).view(1, 1, -1).expand(3, 1, -1)
    else:
        image_end = image_start + features.shape[1]
        states = torch.cat([states[:, :image_start], features.to(states.dtype), states[:, image_end:]], 1)
        positions = _photo_positions(model, length, image_start, image_end, grid).to(device)
    rotation = language.rotary_emb(states, positions)
    mask = torch.full((length, length), _MASKED, device=device).triu(1)[None, None]
    for index, layer in enumerate(language.layers):
        states = layer(states, attention_mask=mask, position_ids=None, position_embeddings=rotation)
        if stacked is not None and index < len(stacked):
            image = states[:, image_start:image_end] + stacked[index].to(states.dtype)
            states = torch.cat([states[:, :image_start], image, states[:, image_end:]], 1)
    normed: torch.Tensor = language.norm(states)
    return normed


def penalise_repetition(
    logits: torch.Tensor, tokens: torch.Tensor, chosen: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Logits [n, vocabulary] of the `chosen` positions [rows, length] as `generate` would penalise them.

    Tokens that stand in the row up to the position count as repeated, the prompt's included.
    """
    rows, length = tokens.shape
    places = torch.arange(length, device=tokens.device).expand(rows, -1)
    first = torch.full((rows, logits.shape[-1]), length, device=tokens.device)
    first.scatter_reduce_(1, tokens, places, "amin")
    row, place = chosen.nonzero(as_tuple=True)
    repeated = first[row] <= place[:, None]
    penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(repeated, penalised, logits)


@lru_cache(16)
def _vision_positions(visual: Any, grid: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    device = visual.pos_embed.weight.device
    shape = torch.tensor([[1, *grid]], device=device)
    indices, weights = get_vision_interpolation_indices_and_weights(
        shape,
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=2,
        kwargs={},
    )
    cosine, sine = visual.rotary_pos_emb(
        visual.pos_embed.weight.detach(), get_vision_position_ids(shape, 2, kwargs={})
    )
    return indices, weights, cosine, sine


def _attend(attention: Any, states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    rows, count, _ = states.shape
    query, key, value = attention.qkv(states).view(rows, count, 3, attention.num_heads, -1).unbind(2)
    query, key = _rotate(query, cosine, sine), _rotate(key, cosine, sine)
    scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1) * attention.scaling)
    mixed = torch.softmax(scores, -1, dtype=value.dtype) @ value.transpose(1, 2)
    projected: torch.Tensor = attention.proj(mixed.transpose(1, 2).reshape(rows, count, -1))
    return projected


def _rotate(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    cosine, sine = cosine[:, None].to(states.dtype), sine[:, None].to(states.dtype)
    first, second = states.chunk(2, -1)
    return states * cosine + torch.cat((-second, first), -1) * sine


def _photo_positions(
    model: Any, length: int, image_start: int, image_end: int, grid: tuple[int, int]
) -> torch.Tensor:
    """Positions [3, 1, length]: along the text, over the photo's rows and columns, along the text again."""
    before = torch.arange(image_start).view(1, -1).expand(3, -1)
    image = model.model.get_vision_position_ids(image_start, torch.tensor([1, *grid]), 1, 2)
    next_position = image_start + max(grid) // 2
    after = (torch.arange(length - image_end) + next_position).view(1, -1).expand(3, -1)
    return torch.cat([before, image.to(before.device), after], 1)[:, None]

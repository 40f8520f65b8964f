"""Keys and values in slots: one row each, every row as long as it is, written in place.

transformers' own dynamic cache is copied whole at every step, and its static cache keeps one length for
all rows. Here a slot is filled from its first cell, rows have lengths of their own, and a new prompt is
written into the slots behind the last row while the others stand still.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(slots=True)
class _Plan:
    """Where the next forward writes and reads in every layer; shared by the layers, so that they do not
    point back to the cache and keep it alive."""

    cells: int = 0
    write: tuple[slice | torch.Tensor, ...] = ()
    read: tuple[slice, ...] = ()
    one_token_each: bool = False


class SlotLayer(CacheLayerMixin):
    """One layer's `states`, [keys and values, slots, heads, cells, head size]."""

    def __init__(self, plan: _Plan, states: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._plan = plan
        self.states = states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states [rows, heads, tokens, size] where they belong; all that may be looked at."""
        keys, values = self.states
        plan = self._plan
        if plan.one_token_each:
            key_states, value_states = key_states[:, :, 0], value_states[:, :, 0]
        keys[plan.write], values[plan.write] = key_states, value_states
        return keys[plan.read], values[plan.read]

    def grow(self) -> None:
        """Add empty cells to every slot, up to the plan's number."""
        *outer, filled, size = self.states.shape
        grown = _zeros((*outer, self._plan.cells, size), self.states)
        grown[..., :filled, :] = self.states
        self.states = grown

    def copy(self, source: SlotLayer, from_slot: int, to_slots: slice, cells: int) -> None:
        """The first cells of a slot of `source`, and nothing behind them.

        A masked cell still enters a product, with weight zero: what an earlier row left there must not
        be infinite.
        """
        self.states[:, to_slots, :, :cells] = source.states[:, from_slot, :, :cells].unsqueeze(1)
        self.states[:, to_slots, :, cells:] = 0

    # The slots exist from the start, and every forward brings a mask of its own.

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """See CacheLayerMixin."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """See CacheLayerMixin."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """See CacheLayerMixin."""
        return 0

    def get_max_length(self) -> int:
        """See CacheLayerMixin."""
        return self._plan.cells


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros of that shape, otherwise `like` a tensor.

    On a host they are mapped: what was grown out of goes back to the system at once. In the heap it would
    leave holes that are too small for what comes next.
    """
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    pages = mmap.mmap(-1, math.prod(shape) * like.element_size())
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)


class SlotCache(Cache):
    """The slots of all layers; they grow by `growth` cells at a time, or a multiple of it.

    Every forward through the model follows a call of `for_prompts` or `for_one_token_each`, and cells are
    there once they were asked for by `reserve`.
    """

    def __init__(
        self,
        *,
        layers: int,
        rows: int,
        heads: int,
        head_size: int,
        growth: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.moves = 0
        """How often the slots came to another place in memory."""
        self._plan = _Plan()
        self._growth = growth
        shape = (2, rows, heads, 0, head_size)
        self._slot_layers = [
            SlotLayer(self._plan, torch.zeros(shape, dtype=dtype, device=device)) for _ in range(layers)
        ]
        super().__init__(layers=list(self._slot_layers))

    def for_prompts(self, slots: slice, *, start: int, end: int) -> None:
        """The next forward brings tokens for the cells from `start` to `end` of those slots."""
        self._plan.write = (slots, slice(None), slice(start, end))
        self._plan.read = (slots, slice(None), slice(end))
        self._plan.one_token_each = False

    def for_one_token_each(self, lengths: torch.Tensor, *, window: int) -> None:
        """The next forward brings one token for each of the first slots, behind its length.

        `lengths` is [rows], each below `window`: the cells that are looked at, as far as masks allow.
        """
        self._plan.write = (torch.arange(len(lengths), device=lengths.device), slice(None), lengths)
        self._plan.read = (slice(len(lengths)), slice(None), slice(window))
        self._plan.one_token_each = True

    def copy(self, source: SlotCache, from_slot: int, to_slots: slice, *, cells: int) -> None:
        """The first cells of a slot of `source` (which may be this cache) into slots of this one, which
        are empty behind them."""
        for layer, other in zip(self._slot_layers, source._slot_layers, strict=True):
            layer.copy(other, from_slot, to_slots, cells)

    def clear(self, slots: slice) -> None:
        """Empty some slots: see `SlotLayer.copy`."""
        for layer in self._slot_layers:
            layer.states[:, slots] = 0

    def reserve(self, cells: int) -> None:
        """See that every slot has so many cells."""
        if cells > self._plan.cells:
            self._plan.cells = -(-cells // self._growth) * self._growth
            self.moves += 1
            for layer in self._slot_layers:
                layer.grow()

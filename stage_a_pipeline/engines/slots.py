"""Keys and values in slots: one row each, every row as long as it is, written in place.

transformers' own dynamic cache is copied whole at every step, and its static cache keeps one length for
all rows. Here a slot is filled from its first cell, rows have lengths of their own, and a new prompt is
written into the slots behind the last row while the others stand still.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_CELLS: Final = 64
"""Slots grow by multiples of this, so that they grow seldom."""


class SlotLayer(CacheLayerMixin):
    """One layer's `states`, [keys and values, slots, heads, cells, head size]."""

    def __init__(self, slots: SlotCache, states: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self.states = states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states [rows, heads, tokens, size] where they belong; all that may be looked at."""
        keys, values = self.states
        write, read = self._slots.write, self._slots.read
        if self._slots.one_token_each:
            key_states, value_states = key_states[:, :, 0], value_states[:, :, 0]
        keys[write], values[write] = key_states, value_states
        return keys[read], values[read]

    def grow(self, cells: int) -> None:
        """Add empty cells to every slot, up to that many."""
        *outer, filled, size = self.states.shape
        # Zeros, not leftovers: a masked cell still enters a product, with weight zero.
        grown = self.states.new_zeros((*outer, cells, size))
        grown[..., :filled, :] = self.states
        self.states = grown

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
        return self._slots.cells


class SlotCache(Cache):
    """The slots of all layers, and where the next forward writes and reads.

    Every forward through the model follows a call of `for_prompts` or `for_one_token_each`.
    """

    def __init__(
        self, *, layers: int, rows: int, heads: int, head_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.cells = _CELLS
        self.write: tuple[slice | torch.Tensor, ...] = ()
        self.read: tuple[slice, ...] = ()
        self.one_token_each = False
        shape = (2, rows, heads, self.cells, head_size)
        self.slot_layers: Sequence[SlotLayer] = [
            SlotLayer(self, torch.zeros(shape, dtype=dtype, device=device)) for _ in range(layers)
        ]
        super().__init__(layers=list(self.slot_layers))

    def for_prompts(self, slots: slice, *, start: int, end: int) -> None:
        """The next forward brings tokens for the cells from `start` to `end` of those slots."""
        self._reserve(end)
        self.write = (slots, slice(None), slice(start, end))
        self.read = (slots, slice(None), slice(end))
        self.one_token_each = False

    def for_one_token_each(self, lengths: torch.Tensor, *, longest: int) -> None:
        """The next forward brings one token for each of the first slots, behind its length.

        `lengths` is [rows], and `longest` the largest of them.
        """
        self._reserve(longest + 1)
        self.write = (torch.arange(len(lengths), device=lengths.device), slice(None), lengths)
        self.read = (slice(len(lengths)), slice(None), slice(longest + 1))
        self.one_token_each = True

    def copy(self, source: SlotCache, from_slot: int, to_slots: slice, *, cells: int) -> None:
        """The first cells of a slot of `source` (which may be this cache) into slots of this one."""
        self._reserve(cells)
        for layer, other in zip(self.slot_layers, source.slot_layers, strict=True):
            layer.states[:, to_slots, :, :cells] = other.states[:, from_slot, :, :cells].unsqueeze(1)

    def _reserve(self, cells: int) -> None:
        if cells > self.cells:
            self.cells = -(-cells // _CELLS) * _CELLS
            for layer in self.slot_layers:
                layer.grow(self.cells)

"""Qwen3-VL's forward passes over slots, through transformers' own modules."""

from __future__ import annotations

from typing import Any

import torch

from stage_a_pipeline.engines.slots import SlotCache


class SlotForward:
    """Prefill of newcomers, and one decode step of all rows, over a cache of slots.

    Positions are given, never left to the model: it keeps one set of rotary offsets for all rows.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self.device = device

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self._model.lm_head.out_features)

    def empty_cache(self, rows: int, *, growth: int) -> SlotCache:
        """Slots for that many rows, which grow by so many cells at a time."""
        config = self._model.config.text_config
        return SlotCache(
            layers=config.num_hidden_layers,
            rows=rows,
            heads=config.num_key_value_heads,
            head_size=config.head_dim,
            growth=growth,
            dtype=self._model.dtype,
            device=self.device,
        )

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    def positions(self, tokens: torch.Tensor, image_token: int, grid: torch.Tensor) -> torch.Tensor:
        """Rotary positions [3, tokens] of one whole prompt [tokens] with one photo; all on the host.

        `grid` is the photo's [1, 3]: frames, and patches down and across.
        """
        mm_token_type_ids = (tokens == image_token).int()
        positions: torch.Tensor = self._model.model.get_rope_index(
            tokens[None], mm_token_type_ids[None], image_grid_thw=grid
        )[0]
        return positions[:, 0]

    def prefill(
        self,
        cache: SlotCache,
        slots: slice,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        *,
        start: int = 0,
        photos: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Hidden states [rows, tokens, size] of `tokens` [rows, tokens] that stand in `slots` from `start`.

        `positions` is [3, rows, tokens], on the host as `tokens` are; `photos` are on the device. Rows are
        padded on the right: the mask is causal, so padding cannot be seen by what stands before it, and
        later each row sees its own length only.
        """
        end = start + tokens.shape[1]
        cells = torch.arange(end, device=self.device)
        cache.reserve(end)
        cache.for_prompts(slots, start=start, end=end)
        hidden: torch.Tensor = self._model.model(
            input_ids=tokens.to(self.device, non_blocking=True),
            position_ids=positions.to(self.device, non_blocking=True),
            # From the first cell on, the attention kernel knows by itself what stands behind a token.
            attention_mask=(cells <= cells[start:, None])[None, None] if start else None,
            past_key_values=cache,
            use_cache=True,
            **(photos or {}),
        ).last_hidden_state
        return hidden

    def decode(
        self,
        cache: SlotCache,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        lengths: torch.Tensor,
        *,
        window: int,
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] behind one more token of each of the first rows.

        `tokens`, their rotary `positions` and the `lengths` of the slots so far are [rows]; all lengths are
        below `window`, and the slots have as many cells. Nothing is read back to the host.
        """
        cells = torch.arange(window, device=self.device)
        cache.for_one_token_each(lengths, window=window)
        text_model = self._model.model.language_model
        hidden = text_model(
            inputs_embeds=text_model.embed_tokens(tokens[:, None]),
            position_ids=positions[None, :, None].expand(3, -1, -1),
            attention_mask=(cells <= lengths[:, None])[:, None, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return self.logits(hidden[:, 0])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary] from hidden states [rows, size]."""
        logits: torch.Tensor = self._model.lm_head(hidden)
        return logits

"""Requests as tensors: prompts around photos, their beginnings computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.patches import Patches, PreparedPhoto
from stage_a_pipeline.engines.slot_forward import SlotForward
from stage_a_pipeline.engines.slots import SlotCache
from stage_a_pipeline.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt's tokens around its photo. Where beginnings are reused, the keys and values of those before
    it are in slot 0 of `cache`."""

    before: list[int]
    after: list[int]
    cache: SlotCache | None

    @property
    def reused(self) -> int:
        """How many tokens need not be computed again."""
        return len(self.before) if self.cache is not None else 0


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A request as tensors on the host: `tokens` [tokens] and `positions` [3, tokens] of the whole prompt."""

    request: Request
    options: GenerationOptions
    text: Text
    tokens: torch.Tensor
    positions: torch.Tensor
    photo: PreparedPhoto


class Newcomers:
    """Makes newcomers of requests, as the processor would, one at a time and without padding."""

    def __init__(
        self,
        processor: Any,
        forward: SlotForward,
        chat_tokens: Callable[[Prompt], list[int]],
        patches: Patches,
        *,
        prefix_reuse: bool,
    ) -> None:
        self._processor = processor
        self._forward = forward
        self._chat_tokens = chat_tokens
        self._patches = patches
        self._prefix_reuse = prefix_reuse
        self._texts: dict[Prompt, Text] = {}

    def newcomer(self, request: Request, options: GenerationOptions) -> Newcomer:
        """The request as tensors. EngineError for a prompt without one place for the photo."""
        text, photo = self._text(request.prompt), request.image
        if not isinstance(photo, PreparedPhoto):
            photo = self._patches.prepare(photo)
        image_token = self._processor.image_token_id
        image_tokens = int(photo.image_grid_thw.prod()) // self._processor.image_processor.merge_size**2
        tokens = torch.tensor([*text.before, *[image_token] * image_tokens, *text.after])
        positions = self._forward.positions(tokens, image_token, photo.image_grid_thw)
        return Newcomer(request, options, text, tokens, positions, photo)

    def image_tokens(self, newcomer: Newcomer) -> int:
        """How many tokens stand for the photo."""
        return int((newcomer.tokens == self._processor.image_token_id).sum())

    def forget_texts(self) -> None:
        """Free the keys and values of all beginnings."""
        self._texts.clear()

    def _text(self, prompt: Prompt) -> Text:
        if prompt not in self._texts:
            tokens = self._chat_tokens(prompt)
            place = tokens.index(self._processor.image_token_id)
            before, after = tokens[:place], tokens[place + 1 :]
            self._texts[prompt] = Text(before, after, self._beginning(before) if self._prefix_reuse else None)
        return self._texts[prompt]

    def _beginning(self, tokens: list[int]) -> SlotCache:
        """Keys and values of the tokens before the photo, which see nothing of it."""
        cache = self._forward.empty_cache(rows=1, growth=1)
        positions = torch.arange(len(tokens)).expand(3, 1, -1)
        self._forward.prefill(cache, slice(0, 1), torch.tensor([tokens]), positions)
        return cache

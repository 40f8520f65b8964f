"""Requests as tensors: prompts around photos, their beginnings computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.slot_forward import SlotForward
from stage_a_pipeline.engines.slots import SlotCache
from stage_a_pipeline.errors import EngineError
from stage_a_pipeline.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt's tokens around its photo; the keys and values of those before it are in slot 0."""

    before: list[int]
    after: list[int]
    cache: SlotCache


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A request as tensors on the host, its patches in the model's type.

    `tokens` [tokens] and `positions` [3, tokens] are those of the whole prompt, `pixel_values` is
    [patches, values], and `image_grid_thw` [1, 3] counts frames, and patches down and across.
    """

    request: Request
    options: GenerationOptions
    text: Text
    tokens: torch.Tensor
    positions: torch.Tensor
    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor


class Newcomers:
    """Makes newcomers of requests, as the processor would, one at a time and without padding."""

    def __init__(
        self, processor: Any, forward: SlotForward, chat_text: Callable[[Prompt], str], dtype: torch.dtype
    ) -> None:
        self._processor = processor
        self._forward = forward
        self._chat_text = chat_text
        self._dtype = dtype
        self._texts: dict[Prompt, Text] = {}

    def prepare(self, request: Request, options: GenerationOptions) -> Newcomer:
        """The request as tensors. EngineError for a prompt without one place for the photo."""
        text = self._text(request.prompt)
        photo = self._processor.image_processor(images=[request.image], do_resize=False, return_tensors="pt")
        grid = photo["image_grid_thw"]
        image_token = self._processor.image_token_id
        image_tokens = int(grid.prod()) // self._processor.image_processor.merge_size**2
        tokens = torch.tensor([*text.before, *[image_token] * image_tokens, *text.after])
        return Newcomer(
            request=request,
            options=options,
            text=text,
            tokens=tokens,
            positions=self._forward.positions(tokens, image_token, grid),
            pixel_values=photo["pixel_values"].to(self._dtype),
            image_grid_thw=grid,
        )

    def image_tokens(self, newcomer: Newcomer) -> int:
        """How many tokens stand for the photo."""
        return int((newcomer.tokens == self._processor.image_token_id).sum())

    def forget_texts(self) -> None:
        """Free the keys and values of all beginnings."""
        self._texts.clear()

    def _text(self, prompt: Prompt) -> Text:
        if prompt not in self._texts:
            tokens = self._processor.tokenizer(self._chat_text(prompt))["input_ids"]
            if (places := tokens.count(self._processor.image_token_id)) != 1:
                raise EngineError(
                    f"the prompt has {places} places for a photo, not one: take image tokens out of the "
                    "prompt texts and the mission's focus, or correct the checkpoint's chat_template.jinja"
                )
            place = tokens.index(self._processor.image_token_id)
            before, after = tokens[:place], tokens[place + 1 :]
            cache = self._forward.empty_cache(rows=1)
            positions = torch.arange(place).expand(3, 1, -1)
            self._forward.prefill(cache, slice(0, 1), torch.tensor([before]), positions)
            self._texts[prompt] = Text(before, after, cache)
        return self._texts[prompt]

"""Qwen3-VL around its forward pass: what engines share that hand photos and texts to a checkpoint here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from stage_a_pipeline.engines.base import Completion, FinishReason, GenerationOptions, InputTrace, Request
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.loading import FILLER_TOKEN, load_processor
from stage_a_pipeline.errors import CheckpointError, EngineError
from stage_a_pipeline.images import Pixels, rgb_sha256
from stage_a_pipeline.photo_sizes import fit_pixels, most_pixels
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.repetition import repeats_to_the_end

if TYPE_CHECKING:
    from PIL.Image import Image

_LONG_ANSWER: Final = 256
_LOOK_EVERY: Final = 64
"""Tokens after which an answer is looked at for endless repetition, at first and then: 99% of summaries
have under 255 characters."""

STOP_TOKENS: Final = ("<|endoftext|>", "<|im_end|>")


def look_is_due(tokens: int) -> bool:
    """Whether an answer of so many tokens is looked at for endless repetition."""
    return tokens >= _LONG_ANSWER and tokens % _LOOK_EVERY == 0


@dataclass(frozen=True, slots=True)
class PhotoTokens:
    """A photo in the model's prompt: its grid (frames, patches down, patches across), and its tokens."""

    grid: tuple[int, int, int]
    tokens: int


class _PixelRange(TypedDict):
    """What sizes of photos are fitted to."""

    factor: int
    min_pixels: int
    max_pixels: int


class Qwen3VL(ABC):
    """A checkpoint's processor and tokenizer: sizes, prompts, and completions of generated tokens.

    Raises CheckpointError for a checkpoint that cannot be used.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._processor = load_processor(checkpoint)
        self._chat_texts: dict[Prompt, str] = {}
        self._text_tokens: dict[Prompt, int] = {}
        tokenizer = self._processor.tokenizer
        known = tokenizer.get_vocab()
        self.stop_ids = [known[token] for token in STOP_TOKENS if token in known]
        if not self.stop_ids or FILLER_TOKEN not in known:
            raise CheckpointError(
                f"the tokenizer of {checkpoint.folder} lacks Qwen's {FILLER_TOKEN}, or both of "
                f"{', '.join(STOP_TOKENS)}"
            )
        self.filler = known[FILLER_TOKEN]
        """The token that stands where a row has none."""

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine. The checkpoint's own pixel range applies within `max_pixels`."""
        return fit_pixels(width, height, **self._pixel_range(max_pixels))

    def largest_photo(self, max_pixels: int) -> int:
        """Pixels that no photo exceeds at its `target_size`, whatever its shape."""
        return most_pixels(**self._pixel_range(max_pixels))

    def _pixel_range(self, max_pixels: int) -> _PixelRange:
        processor = self._processor.image_processor
        factor = processor.patch_size * processor.merge_size
        largest = max(factor * factor, min(max_pixels, processor.size["longest_edge"]))
        smallest = min(processor.size["shortest_edge"], largest)
        return {"factor": factor, "min_pixels": smallest, "max_pixels": largest}

    def prepare(self, image: Image) -> Pixels:
        """See Engine."""
        return image

    def prompt_tokens(self, request: Request) -> int:
        """See Engine."""
        return self.text_tokens(request.prompt) + self.image_tokens(request.image.size)

    def text_tokens(self, prompt: Prompt) -> int:
        """Tokens of the prompt around its photo."""
        if prompt not in self._text_tokens:
            tokens = self._processor.tokenizer(self._chat_text(prompt))["input_ids"]
            self._text_tokens[prompt] = len(tokens) - tokens.count(self._processor.image_token_id)
        return self._text_tokens[prompt]

    def chat_tokens(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, of which one is the place of its photo. EngineError where that is not so."""
        tokens: list[int] = self._processor.tokenizer(self._chat_text(prompt))["input_ids"]
        if (places := tokens.count(self._processor.image_token_id)) != 1:
            raise EngineError(
                f"the prompt has {places} places for a photo, not one: take image tokens out of the "
                "prompt texts and the mission's focus, or correct the checkpoint's chat_template.jinja"
            )
        return tokens

    def image_tokens(self, size: tuple[int, int]) -> int:
        """Tokens that stand for a photo of that width and height, as the model sees it."""
        processor = self._processor.image_processor
        return int(size[0] * size[1] // (processor.patch_size * processor.merge_size) ** 2)

    def most_image_tokens(self, max_pixels: int) -> int:
        """Tokens of the largest photo within that many pixels."""
        return self.image_tokens(self.target_size(1 << 12, 1 << 12, max_pixels=max_pixels))

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        photos = self.photo_tokens(requests)
        traces = [
            InputTrace(
                id=request.id,
                rgb_sha256=rgb_sha256(request.image),
                width=request.image.size[0],
                height=request.image.size[1],
                image_grid_thw=photo.grid,
                expected_image_tokens=self.image_tokens(request.image.size),
                actual_image_tokens=photo.tokens,
            )
            for request, photo in zip(requests, photos, strict=True)
        ]
        for trace in traces:
            if trace.expected_image_tokens != trace.actual_image_tokens:
                raise EngineError(
                    f"{trace.id}: {trace.actual_image_tokens} image tokens reached the model "
                    f"where its {trace.width}x{trace.height} pixels make {trace.expected_image_tokens}"
                )
        return traces

    @abstractmethod
    def photo_tokens(self, requests: Sequence[Request]) -> list[PhotoTokens]:
        """What the engine would hand to the model for the photos of these requests."""

    def _chat_text(self, prompt: Prompt) -> str:
        """The prompt in the checkpoint's chat template, rendered once: a mission has one prompt."""
        if prompt not in self._chat_texts:
            photo, text = {"type": "image"}, {"type": "text", "text": prompt.user}
            user = [text, photo] if prompt.text_before_image else [photo, text]
            messages = [
                {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
                {"role": "user", "content": user},
            ]
            self._chat_texts[prompt] = self._processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        return self._chat_texts[prompt]

    def completion(
        self, request: Request, tokens: Sequence[int], prompt_tokens: int, reason: FinishReason
    ) -> Completion:
        """The answer of these generated tokens; a stop token at their end is no part of it."""
        answer = tokens[:-1] if reason == "stop" else tokens
        return Completion(
            id=request.id,
            text=self._text(answer),
            finish_reason=reason,
            prompt_tokens=int(prompt_tokens),
            generated_tokens=len(answer),
        )

    def end_of(self, answer: Sequence[int], options: GenerationOptions) -> FinishReason | None:
        """Why the answer has ended with its newest token; None while it goes on."""
        if answer[-1] in self.stop_ids:
            return "stop"
        if len(answer) >= options.max_new_tokens:
            return "length"
        return "repetition" if self.goes_in_circles(answer, options) else None

    def goes_in_circles(self, answer: Sequence[int], options: GenerationOptions) -> bool:
        """Whether the answer repeats itself, looked at now and then: most have ended before."""
        due = options.repetition_stop and look_is_due(len(answer))
        # The newest character may not be complete yet.
        return due and repeats_to_the_end(self._text(answer).removesuffix("\ufffd"))

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._processor.tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

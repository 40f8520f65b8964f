"""Qwen3-VL on one device: what every engine that runs the checkpoint in this process shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stage_a_pipeline.engines.base import Completion, FinishReason, GenerationOptions, InputTrace, Request
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.loading import FILLER_TOKEN, load_model, load_processor, usable_device
from stage_a_pipeline.engines.memory import free_bytes, most_rows, request_memory, rows_in
from stage_a_pipeline.errors import CheckpointError, EngineError, EngineOutOfMemoryError
from stage_a_pipeline.images import Pixels, fit_pixels, rgb_sha256
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.repetition import repeats_to_the_end
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from stage_a_pipeline.engines.grammar import GrammarState, SummaryGrammars

_LONG_ANSWER: Final = 256
_LOOK_EVERY: Final = 64
"""Tokens after which an answer is looked at for endless repetition, at first and then: 99% of summaries
have under 255 characters."""

STOP_TOKENS: Final = ("<|endoftext|>", "<|im_end|>")
_OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""In messages of torch that is out of memory without saying so by type: on a host, in CUDA, in cuBLAS."""


def look_is_due(tokens: int) -> bool:
    """Whether an answer of so many tokens is looked at for endless repetition."""
    return tokens >= _LONG_ANSWER and tokens % _LOOK_EVERY == 0


@dataclass(frozen=True, slots=True)
class PhotoTokens:
    """A photo in the model's prompt: its grid (frames, patches down, patches across), and its tokens."""

    grid: tuple[int, int, int]
    tokens: int


class Qwen3VL(ABC):
    """A loaded checkpoint: photos and texts into tensors, tokens into completions.

    Raises CheckpointError for a checkpoint, an adapter or a device that cannot be used.
    """

    prefilled_together: int | None = None
    """How many prompts of a batch are computed at once; None: all."""

    growth: int = 1
    """Room for keys and values is taken for a multiple of so many tokens."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, device: str) -> None:
        import torch

        self._torch = torch
        self._device = usable_device(device)
        self._dtype: torch.dtype = getattr(torch, settings.dtype_on(device))
        self._processor = load_processor(checkpoint)
        self._chat_texts: dict[Prompt, str] = {}
        self._text_tokens: dict[Prompt, int] = {}
        self._grammars: SummaryGrammars | None = None
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
        self._model = load_model(checkpoint, settings, self._device, self._dtype)

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine. The checkpoint's own pixel range applies within `max_pixels`."""
        processor = self._processor.image_processor
        factor = processor.patch_size * processor.merge_size
        largest = max(factor * factor, min(max_pixels, processor.size["longest_edge"]))
        smallest = min(processor.size["shortest_edge"], largest)
        return fit_pixels(width, height, factor=factor, min_pixels=smallest, max_pixels=largest)

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

    def image_tokens(self, size: tuple[int, int]) -> int:
        """Tokens that stand for a photo of that width and height, as the model sees it."""
        processor = self._processor.image_processor
        return int(size[0] * size[1] // (processor.patch_size * processor.merge_size) ** 2)

    def fitting_rows(self, prompts: Collection[Prompt], *, max_pixels: int, max_new_tokens: int) -> int:
        """See Engine."""
        image_tokens = self.image_tokens(self.target_size(1 << 12, 1 << 12, max_pixels=max_pixels))
        request = request_memory(
            self._model.config,
            prompt_tokens=max(map(self.text_tokens, prompts)) + image_tokens,
            patches=image_tokens * self._processor.image_processor.merge_size**2,
            answer_tokens=max_new_tokens,
            item_bytes=self._dtype.itemsize,
            growth=self.growth,
        )
        with self.translated_errors():
            free = free_bytes(self._device)
        return rows_in(
            free, request, prefilled_together=self.prefilled_together, most=most_rows(self._device)
        )

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        with self.translated_errors(), self.inference_mode():
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

    def close(self) -> None:
        """See Engine."""
        self._model = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

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

    def start_grammar(self, request: Request) -> GrammarState | None:
        """The grammar of the request's answer, before its first token; None where anything may be said."""
        if request.grammar is None:
            return None
        if self._grammars is None:
            from stage_a_pipeline.engines.grammar import SummaryGrammars

            self._grammars = SummaryGrammars(
                self._processor.tokenizer,
                vocabulary=self._model.lm_head.out_features,
                stop_ids=self.stop_ids,
            )
        return self._grammars.start(request.grammar)

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

    @contextmanager
    def inference_mode(self) -> Iterator[None]:
        """Without gradients, and with the engine's device as the current one: torch records events and
        graphs there, whichever device their tensors are on."""
        cuda = self._torch.cuda
        on_device = cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
        with self._torch.inference_mode(), on_device:
            yield

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Errors of torch and the processor as EngineError, out of memory as its own kind."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            self._torch.cuda.empty_cache()
            raise EngineOutOfMemoryError(str(error)) from error
        except MemoryError as error:
            raise EngineOutOfMemoryError("the host has no memory left for this batch") from error
        except RuntimeError as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise EngineOutOfMemoryError(str(error)) from error
            raise EngineError(f"{type(error).__name__}: {error}") from error
        except (ValueError, IndexError, TypeError) as error:
            raise EngineError(f"{type(error).__name__}: {error}") from error

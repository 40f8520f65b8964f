"""A Qwen3-VL checkpoint on vLLM: its scheduler, kernels and processes; our prompts, sizes and endings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from stage_a_pipeline.engines.base import Completion, GenerationOptions, Request, RunningBatch, answer_all
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.memory import free_on_host
from stage_a_pipeline.engines.qwen3vl import PhotoTokens, Qwen3VL
from stage_a_pipeline.engines.summary_grammar import summary_grammar
from stage_a_pipeline.engines.vllm_arguments import (
    engine_arguments,
    model_length,
    rows_at_once,
    sampling_arguments,
)
from stage_a_pipeline.engines.vllm_batch import VllmBatch
from stage_a_pipeline.engines.vllm_library import Question, Vllm
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings
from stage_a_pipeline.vocabulary import DATASETS

if TYPE_CHECKING:
    Start = Callable[[Mapping[str, Any], str], Vllm]


class VllmEngine(Qwen3VL):
    """Qwen3-VL on vLLM's own engine, in processes that it starts on the device, or on several.

    Prompts, sizes of photos, stop tokens and the end of endless answers are those of the other engines.
    `start` starts vLLM with arguments on a device. Raises ConfigurationError where it does not start.
    """

    name = "vllm"

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, device: str, *, start: Start = Vllm
    ) -> None:
        from transformers import AutoConfig

        super().__init__(checkpoint)
        self._device = device
        self._names = map(str, count())
        self._prompts: dict[Prompt, list[int]] = {}
        self._rows = rows_at_once(settings, device)
        config = AutoConfig.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
        pixels = self.largest_photo(max(settings.max_pixels_for(dataset) for dataset in DATASETS))
        self._length = model_length(
            settings,
            image_tokens=self.image_tokens((pixels, 1)),
            longest=config.text_config.max_position_embeddings,
        )
        arguments = engine_arguments(
            settings,
            device,
            folder=checkpoint.folder,
            config=config,
            length=self._length,
            pixels=pixels,
            free=free_on_host(),
        )
        self.vllm = start(arguments, device)

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        return answer_all(self.start_batch, requests, options)

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return VllmBatch(self, rows)

    def fitting_rows(self, prompts: Collection[Prompt], *, max_pixels: int, max_new_tokens: int) -> int:
        """See Engine. vLLM has taken the memory already; more than its rows would only wait."""
        tokens = max(map(self.text_tokens, prompts)) + self.most_image_tokens(max_pixels) + max_new_tokens
        return max(1, min(self._rows, self.vllm.capacity // tokens))

    def photo_tokens(self, requests: Sequence[Request]) -> list[PhotoTokens]:
        """See Qwen3VL."""
        image_token = self._processor.image_token_id
        rendered = [self.vllm.rendered(self._question(request)) for request in requests]
        return [PhotoTokens(grid, tokens.count(image_token)) for grid, tokens in rendered]

    def lack_of_room(self, request: Request, options: GenerationOptions) -> str | None:
        """What to tell of a request that is too long: vLLM would cut its answer without a word."""
        needed = self.prompt_tokens(request) + options.max_new_tokens
        if needed <= self._length:
            return None
        return (
            f"{request.id} needs {needed} tokens, {options.max_new_tokens} for its answer, but vLLM "
            f"was started for {self._length}; raise engine.vllm_max_model_len, or lower engine.max_pixels"
        )

    def submit(self, request: Request, options: GenerationOptions) -> str:
        """Put a request under way; vLLM's name for it. Raises EngineError, and EngineDiedError."""
        name = next(self._names)
        grammar = None if request.grammar is None else summary_grammar(request.grammar)
        sampling = sampling_arguments(options, request.id, self.stop_ids)
        self.vllm.submit(name, self._question(request), sampling, grammar)
        return name

    def close(self) -> None:
        """See Engine."""
        self.vllm.close()

    def _question(self, request: Request) -> Question:
        prompt = request.prompt
        if prompt not in self._prompts:
            self._prompts[prompt] = self.chat_tokens(prompt)
        return Question(self._prompts[prompt], request.image)

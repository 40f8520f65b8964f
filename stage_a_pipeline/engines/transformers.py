"""Static batches through transformers' own `generate`: the reference that other engines are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stage_a_pipeline.engines.base import Completion, GenerationOptions, Request, RunningBatch
from stage_a_pipeline.engines.qwen3vl import PhotoTokens, look_is_due
from stage_a_pipeline.engines.qwen3vl_on_device import Qwen3VLOnDevice
from stage_a_pipeline.engines.static_batch import StaticBatch
from stage_a_pipeline.errors import EngineError

if TYPE_CHECKING:
    import torch

    from stage_a_pipeline.engines.repetition_stop import RepetitionStop


class TransformersEngine(Qwen3VLOnDevice):
    """Qwen3-VL in batches that run to the end of their longest answer.

    Rows are padded on the left, whatever the checkpoint says, since right padding would start
    generation from padding.
    """

    name = "transformers"

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        if not requests:
            return []
        from stage_a_pipeline.engines.repetition_stop import RepetitionStop

        with self.translated_errors(), self.inference_mode():
            inputs = self._inputs(requests)
            assert_left_padded(inputs["attention_mask"])
            if not options.greedy:
                self._torch.manual_seed(_batch_seed(options.seed, requests))
            width = inputs["input_ids"].shape[1]
            repetition = RepetitionStop(
                width,
                self.stop_ids,
                is_due=look_is_due,
                is_endless=partial(self.goes_in_circles, options=options),
            )
            sequences = self._model.generate(
                **inputs,
                **self._generation_arguments(options),
                stopping_criteria=[repetition],
                logits_processor=self._grammar_masks(requests, repetition),
            )
            prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
            generated = sequences[:, width:].tolist()
        answers = [repetition.answer(row, tokens) for row, tokens in enumerate(generated)]
        return [
            self.completion(request, answer, length, self.end_of(answer, options) or "length")
            for request, answer, length in zip(requests, answers, prompt_tokens, strict=True)
        ]

    def photo_tokens(self, requests: Sequence[Request]) -> list[PhotoTokens]:
        """See Qwen3VL."""
        inputs = self._inputs(requests)
        tokens = (inputs["input_ids"] == self._processor.image_token_id).sum(dim=1).tolist()
        grids = inputs["image_grid_thw"].tolist()
        return [PhotoTokens(tuple(grid), count) for grid, count in zip(grids, tokens, strict=True)]

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return StaticBatch(self.generate, rows)

    def _inputs(self, requests: Sequence[Request]) -> Any:
        """Everything the processor returns: without mm_token_type_ids, positions would be wrong."""
        texts = [self._chat_text(request.prompt) for request in requests]
        inputs = self._processor(
            images=[request.image for request in requests],
            text=texts,
            padding=True,
            return_tensors="pt",
            do_resize=False,
        )
        return inputs.to(self._device, self._dtype)

    def _grammar_masks(self, requests: Sequence[Request], repetition: RepetitionStop) -> list[Any]:
        """What `generate` applies to its scores behind the repetition penalty, before temperature."""
        if all(request.grammar is None for request in requests):
            return []
        from stage_a_pipeline.engines.grammar import SummariesOnly

        return [SummariesOnly([self.start_grammar(request) for request in requests], repetition.is_over)]

    def _generation_arguments(self, options: GenerationOptions) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "max_new_tokens": options.max_new_tokens,
            "do_sample": not options.greedy,
            "repetition_penalty": options.repetition_penalty,
            "eos_token_id": self.stop_ids,
            "pad_token_id": self.filler,
        }
        if options.greedy:
            # A checkpoint's generation_config often samples; its values would only cause warnings.
            return {**arguments, "temperature": None, "top_p": None, "top_k": None}
        return {**arguments, "temperature": options.temperature, "top_p": options.top_p, "top_k": 0}


def assert_left_padded(attention_mask: torch.Tensor) -> None:
    """Refuse a batch whose rows do not all end in a prompt token.

    `attention_mask` is [rows, tokens], 0 on padding. Generation from padding writes garbage.
    """
    if not bool(attention_mask[:, -1].all()):
        raise EngineError(
            "a row of the batch ends in padding: prompts must be padded on the left for generation"
        )


def _batch_seed(seed: int, requests: Sequence[Request]) -> int:
    digest = hashlib.sha256("\n".join([str(seed), *(request.id for request in requests)]).encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 1

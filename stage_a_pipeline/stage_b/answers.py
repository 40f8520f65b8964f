"""What a checkpoint answers to prompts of text alone: greedily, or sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from typing import Any, Final

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_model, load_processor, usable_device
from stage_a_pipeline.engines.qwen3vl import STOP_TOKENS
from stage_a_pipeline.errors import ConfigurationError, EngineOutOfMemoryError, InputError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings

MAX_NEW_TOKENS: Final = 128
_ROWS: Final = 32
"""Chats together where the settings leave that to the engine: texts of equal size, without photos."""

_LONGEST: Final = 16
"""So many of the longest prompts are counted in tokens."""

TextAnswers = Callable[[Sequence[Prompt]], list[str]]
"""One answer per prompt of text alone."""
Counted = Callable[[int, int], None]
"""Is told how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn, where they are not the most likely ones."""

    temperature: float
    top_p: float
    seed: int


def require_model(settings: EngineSettings, *, remedy: str) -> None:
    """ConfigurationError for an engine that has no model to write verdicts."""
    if settings.engine == "fake":
        raise ConfigurationError(
            f"verdicts need a checkpoint, and engine 'fake' has none; {remedy}set engine.engine to refill"
        )


def text_answers(
    settings: EngineSettings,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    sampling: Sampling | None = None,
    progress: Counted | None = None,
) -> TextAnswers:
    """Answers of the settings' checkpoint on its first device, greedy ones without `sampling`.

    The model is loaded when it is asked. Raises CheckpointError for a checkpoint or device that cannot be
    used, EngineOutOfMemoryError where the device has no room for a single prompt.
    """

    def answer(prompts: Sequence[Prompt]) -> list[str]:
        import torch

        checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
        device = usable_device(settings.devices[0].partition("+")[0])
        dtype = getattr(torch, settings.dtype_on(settings.devices[0]))
        tokenizer = load_processor(checkpoint).tokenizer
        model = load_model(checkpoint, settings, device, dtype)
        require_context(model, tokenizer, prompts, max_new_tokens)
        if sampling is not None:
            torch.manual_seed(sampling.seed)
        chats = [_chat(tokenizer, prompt) for prompt in prompts]
        arguments = _generation_arguments(tokenizer, max_new_tokens, sampling)
        generate = partial(_generate, model, tokenizer, arguments)
        rows = _ROWS if settings.batch_size == "auto" else settings.batch_size
        return answer_in_batches(chats, generate, batch_size=rows, progress=progress)

    return answer


def require_context(model: Any, tokenizer: Any, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    """InputError where a prompt and its answer are longer than what the model was made for."""
    limit = model.config.get_text_config().max_position_embeddings
    # Which has the most tokens is nearly told by the characters.
    for prompt in nlargest(_LONGEST, prompts, key=lambda one: len(one.user)):
        tokens = len(_chat(tokenizer, prompt))
        if tokens + max_new_tokens > limit:
            first, *photos = prompt.user.split("\n")
            raise InputError(
                f"a group of {len(photos)} photos makes a prompt of {tokens} tokens, and with "
                f"{max_new_tokens} of the answer the checkpoint takes {limit}: leave that group out of the "
                f"files, or take a checkpoint with a longer context; its prompt begins {first[:60]!r}"
            )


def answer_in_batches(
    chats: Sequence[list[int]],
    generate: Callable[[Sequence[list[int]]], list[str]],
    *,
    batch_size: int,
    progress: Counted | None = None,
) -> list[str]:
    """The answers to chats of tokens, in their order, whatever the batches.

    A batch that has no room is asked again in halves, and later ones are no larger. Raises
    EngineOutOfMemoryError when a single chat has none.
    """
    # The longest first: one that has no room shows at once, and rows of a batch are about as long.
    waiting = sorted(range(len(chats)), key=lambda place: -len(chats[place]))
    answers = [""] * len(chats)
    if progress is not None:
        progress(0, len(chats))
    while waiting:
        batch = waiting[:batch_size]
        try:
            texts = generate([chats[place] for place in batch])
        except EngineOutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            continue
        for place, text in zip(batch, texts, strict=True):
            answers[place] = text
        waiting = waiting[len(batch) :]
        if progress is not None:
            progress(len(chats) - len(waiting), len(chats))
    return answers


def _chat(tokenizer: Any, prompt: Prompt) -> list[int]:
    messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    tokens: list[int] = tokenizer(text)["input_ids"]
    return tokens


def _generate(model: Any, tokenizer: Any, arguments: dict[str, Any], chats: Sequence[list[int]]) -> list[str]:
    import torch

    inputs = tokenizer.pad({"input_ids": list(chats)}, padding_side="left", return_tensors="pt").to(
        model.device
    )
    try:
        with torch.inference_mode():
            rows = model.generate(**inputs, **arguments)
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise EngineOutOfMemoryError(
            f"the device has no room for {len(chats)} verdicts at once: {error}; choose a larger device"
        ) from error
    new = rows[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def _generation_arguments(tokenizer: Any, max_new_tokens: int, sampling: Sampling | None) -> dict[str, Any]:
    known = tokenizer.get_vocab()
    return {
        "max_new_tokens": max_new_tokens,
        # A checkpoint's generation_config often samples; its values would only cause warnings.
        "do_sample": sampling is not None,
        "temperature": None if sampling is None else sampling.temperature,
        "top_p": None if sampling is None else sampling.top_p,
        "top_k": None if sampling is None else 0,
        "repetition_penalty": 1.0,
        "eos_token_id": [known[token] for token in STOP_TOKENS if token in known],
        "pad_token_id": tokenizer.pad_token_id,
    }

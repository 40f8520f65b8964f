"""After an engine failed: everybody who was under way asked again, and what that says about memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from stage_a_pipeline.engines.base import Completion, EngineFailure, GenerationOptions, Request
from stage_a_pipeline.errors import EngineOutOfMemoryError
from stage_a_pipeline.inference.bisection import generate_after_failure, generate_bisecting

Generate = Callable[[Sequence[Request], GenerationOptions], list[Completion]]


@dataclass(frozen=True, slots=True)
class Recovered:
    """One answer per request, by its id, and the batch size that has room from here on."""

    answers: list[tuple[str, Completion | EngineFailure]]
    rows: int


def recover(
    error: Exception,
    under_way: Sequence[tuple[Request, GenerationOptions]],
    generate: Generate,
    *,
    rows: int,
    first_try: GenerationOptions,
) -> Recovered:
    """Ask all that was `under_way` in a batch of `rows` when the engine raised `error`.

    They are asked by their options, in halves where it fails again, down to the guilty request.
    Requests with other options than `first_try` ask for longer answers than those to come: what they
    alone have no room for does not lower `rows`. Raises what is NOT_THE_ENGINE.
    """
    by_options: dict[GenerationOptions, list[Request]] = {}
    for request, options in under_way:
        by_options.setdefault(options, []).append(request)
    ran_out = isinstance(error, EngineOutOfMemoryError)
    memory = _Memory(generate)
    answers: list[tuple[str, Completion | EngineFailure]] = []
    for options, requests in by_options.items():
        ask = partial(memory.generate, options=options)
        # Memory that ran out for one request beside others, or in a large batch, may do for it alone.
        if len(by_options) > 1 or (len(requests) == 1 and ran_out):
            results = generate_bisecting(requests, ask)
        else:
            results = generate_after_failure(error, requests, ask)
        answers += zip([request.id for request in requests], results, strict=True)
    first_tries = len(by_options.get(first_try, ()))
    if first_try in memory.ran_out_for or (ran_out and len(by_options) == 1 and first_tries > 1):
        # What had room where more had not: one huge photo must not cost more than that.
        rows = min(rows, memory.largest if first_tries > 1 else _half(rows))
    elif ran_out and first_tries and not memory.ran_out_for:
        # Too much only together with longer retries, or only in a batch of many places.
        rows = _half(rows)
    return Recovered(answers, rows)


@dataclass(slots=True)
class _Memory:
    """Watches which options memory runs out for, and how many requests together have room."""

    ask: Generate
    ran_out_for: set[GenerationOptions] = field(default_factory=set)
    largest: int = 1

    def generate(self, requests: Sequence[Request], *, options: GenerationOptions) -> list[Completion]:
        try:
            completions = self.ask(requests, options)
        except EngineOutOfMemoryError:
            self.ran_out_for.add(options)
            raise
        self.largest = max(self.largest, len(requests))
        return completions


def _half(rows: int) -> int:
    return max(1, rows // 2)

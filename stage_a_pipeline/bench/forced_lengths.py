"""An engine around another: it gives every request its own answer length, and records what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from PIL.Image import Image

from stage_a_pipeline.bench.engine_records import Answer
from stage_a_pipeline.engines.base import (
    BatchUsage,
    Completion,
    Engine,
    GenerationOptions,
    InputTrace,
    Notice,
    Request,
    RunningBatch,
    Unanswered,
    answer_all,
)
from stage_a_pipeline.images import Pixels
from stage_a_pipeline.prompts import Prompt

StartBatch = Callable[[int], RunningBatch]


class RecordedEngine:
    """Hands everything to `engine`, with two differences.

    A request whose id is in `limits` is answered with exactly so many tokens, and as if the model had
    ended there: the scheduler would ask a cut answer again. And the first answer to every request is kept in
    `answers`. Batches come from `start_batch` instead of the engine where it is given.
    """

    def __init__(
        self, engine: Engine, limits: Mapping[str, int], *, start_batch: StartBatch | None = None
    ) -> None:
        self.answers: dict[str, Answer] = {}
        self.useful_row_steps = 0
        self.prompt_tokens_of: dict[str, int] = {}
        self._engine = engine
        self._limits = limits
        self._start_batch = start_batch or engine.start_batch

    @property
    def name(self) -> str:
        """See Engine."""
        return self._engine.name

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine."""
        return self._engine.target_size(width, height, max_pixels=max_pixels)

    def prepare(self, image: Image) -> Pixels:
        """See Engine."""
        return self._engine.prepare(image)

    def prompt_tokens(self, request: Request) -> int:
        """See Engine."""
        return self._engine.prompt_tokens(request)

    def fitting_rows(self, prompts: Collection[Prompt], *, max_pixels: int, max_new_tokens: int) -> int:
        """See Engine."""
        return self._engine.fitting_rows(prompts, max_pixels=max_pixels, max_new_tokens=max_new_tokens)

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        return answer_all(self.start_batch, requests, options)

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return _RecordedBatch(self, self._start_batch(rows))

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        return self._engine.trace_inputs(requests)

    def close(self) -> None:
        """See Engine."""
        self._engine.close()

    def own_options(self, request: Request, options: GenerationOptions) -> GenerationOptions:
        """The options with the request's own length."""
        limit = self._limits.get(request.id)
        return options if limit is None else replace(options, max_new_tokens=limit, repetition_stop=False)

    def record(self, completion: Completion) -> Completion:
        """Keep the answer; what the scheduler shall see of it."""
        stopped = completion.finish_reason == "stop"
        tokens = completion.generated_tokens + stopped
        self.useful_row_steps += tokens - 1
        cut = completion.finish_reason == "repetition"
        self.answers.setdefault(completion.id, Answer(completion.text, tokens, cut))
        self.prompt_tokens_of[completion.id] = completion.prompt_tokens
        if completion.id in self._limits and completion.finish_reason == "length":
            return replace(completion, finish_reason="stop")
        return completion


class _RecordedBatch:
    """A running batch of the inner engine, its requests with their own lengths."""

    def __init__(self, engine: RecordedEngine, batch: RunningBatch) -> None:
        self._engine = engine
        self._batch = batch

    @property
    def usage(self) -> BatchUsage:
        """See RunningBatch."""
        return self._batch.usage

    @usage.setter
    def usage(self, usage: BatchUsage) -> None:
        self._batch.usage = usage

    @property
    def room(self) -> int:
        """See RunningBatch."""
        return self._batch.room

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return self._batch.open

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        self._batch.add(request, self._engine.own_options(request, options))

    def step(self) -> list[Completion | Unanswered | Notice]:
        """See RunningBatch."""
        return [
            self._engine.record(ended) if isinstance(ended, Completion) else ended
            for ended in self._batch.step()
        ]

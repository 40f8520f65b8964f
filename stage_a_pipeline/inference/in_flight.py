"""Requests under way with an engine, until the last word on each: a usable answer, or a reason."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from stage_a_pipeline.engines.base import (
    BatchUsage,
    Completion,
    Engine,
    EngineFailure,
    GenerationOptions,
    Notice,
    Request,
    RunningBatch,
    Unanswered,
)
from stage_a_pipeline.errors import EngineContractError
from stage_a_pipeline.inference.asking import Listeners, answer_defect, retry_options
from stage_a_pipeline.inference.batching import Budget, Load
from stage_a_pipeline.inference.bisection import NOT_THE_ENGINE, without_frames
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.recovery import recover
from stage_a_pipeline.inference.tracing import StepSpans

_WAITING_SECONDS: Final = 0.1
"""An engine that waits for others does so for longer in a step that answers nobody."""


@dataclass(frozen=True, slots=True)
class Result:
    """The last word on a request, after so many attempts. The answer may still be an unusable one."""

    request_id: str
    answer: Completion | EngineFailure
    attempts: int


@dataclass(slots=True)
class _Asked:
    request: Request
    load: Load
    first_answer: Completion | None = None


class InFlight:
    """As many requests at once as a budget allows, each asked until it has its result.

    An unusable answer is asked for once more, and counts as under way until then. When the engine fails,
    what was under way is asked again in halves, down to the guilty request; out of memory lowers the rows
    of the budget for good. Raises EngineContractError when answers do not match requests.
    """

    def __init__(
        self,
        engine: Engine,
        budget: Budget,
        generation: GenerationOptions,
        metrics: ShardMetrics,
        *,
        listeners: Listeners,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._generation = generation
        self._metrics = metrics
        self._listeners = listeners
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._retries: deque[tuple[Request, GenerationOptions]] = deque()
        self._untold_limits = {"tokens", "pixels"}
        self._batch: RunningBatch = engine.start_batch(budget.rows)
        metrics.batch_size = budget.rows
        self._tell_inputs = listeners.inputs
        self._traced: set[str] = set()
        self._spans = StepSpans(listeners.span, metrics)

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def room(self) -> int:
        """How many more requests should be added before the next step. None while a retry waits."""
        return self._batch.room

    def admits(self, request: Request) -> bool:
        """Whether the request may be added before the next step."""
        return self._batch.room > 0 and self._budget.admits(self._load_of(request), self._load())

    def add(self, request: Request) -> None:
        """Put a request under way that is admitted; its id differs from those of all others under way."""
        assert request.id not in self._asked
        load = self._load_of(request)
        self._tell_limits(request, load)
        self._asked[request.id] = _Asked(request, load)
        self._batch.add(request, self._generation)

    def step(self) -> list[Result]:
        """Let the engine work until at least one request has ended; results in any order, maybe none."""
        started = self._clock()
        self._spans.begin()
        answers = self._answers()
        self._tell_inputs = None
        seconds = self._clock() - started
        self._metrics.device_seconds += seconds
        if not answers and seconds < _WAITING_SECONDS:
            raise EngineContractError("the engine broke its contract: a step that answered nobody, at once")
        results = [self._result(*answer) for answer in answers]
        self._count_usage()
        self._spans.end()
        self._add_retries()
        if self._asked and not self._batch.open:
            lost = next(iter(self._asked))
            raise EngineContractError(f"the engine broke its contract: {lost!r} was never answered")
        return [result for result in results if result is not None]

    def close(self) -> None:
        """Count how the last batch was used, and free what it holds on the device. Nothing follows."""
        self._count_usage()
        self._spans.close()
        del self._batch

    def _load_of(self, request: Request) -> Load:
        tokens = 0 if self._budget.tokens is None else self._engine.prompt_tokens(request)
        return Load(1, tokens, prod(request.image.size))

    def _load(self) -> Load:
        """That of all who are under way, those who wait for their second try included."""
        return sum((asked.load for asked in self._asked.values()), Load())

    def _tell_limits(self, request: Request, load: Load) -> None:
        """Warn of the first request that is above a limit by itself."""
        for limit in self._untold_limits.intersection(self._budget.exceeded_by(load)):
            self._untold_limits.remove(limit)
            if self._listeners.warning is not None:
                self._listeners.warning(
                    f"{request.id} has {getattr(load, limit)} {limit}, more than engine.max_batch_{limit} "
                    f"= {getattr(self._budget, limit)}; such photos are asked alone (raise that setting, or "
                    "lower engine.max_pixels)"
                )

    def _count_usage(self) -> None:
        usage, self._batch.usage = self._batch.usage, BatchUsage()
        self._metrics.steps += usage.steps
        self._metrics.places += usage.places
        self._metrics.filled_places += usage.filled
        self._metrics.computed_tokens += usage.tokens
        self._metrics.padding_tokens += usage.padding

    def _add_retries(self) -> None:
        while self._retries and len(self._batch.open) < self._budget.rows:
            self._batch.add(*self._retries.popleft())

    def _answers(self) -> Sequence[tuple[str, Completion | EngineFailure]]:
        try:
            self._trace(request for request, _ in self._batch.open)
            ended = self._batch.step()
        except NOT_THE_ENGINE:
            raise
        # Whatever a model raises must not end the run; the guilty request is found below.
        except Exception as error:  # noqa: BLE001
            failure = without_frames(error)
        else:
            return list(self._told(ended))
        return self._answers_after(failure)

    def _told(
        self, ended: Iterable[Completion | Unanswered | Notice]
    ) -> Iterator[tuple[str, Completion | EngineFailure]]:
        """What came of requests, once people were told what they should know."""
        for item in ended:
            if isinstance(item, Completion):
                yield item.id, item
            elif isinstance(item, Unanswered):
                yield item.id, item.failure
            elif self._listeners.warning is not None:
                self._listeners.warning(item.sentence)

    def _result(self, request_id: str, answer: Completion | EngineFailure) -> Result | None:
        """None where the request was asked once more."""
        asked = self._asked.pop(request_id, None)
        if asked is None:
            raise EngineContractError(
                f"the engine broke its contract: an answer to {request_id!r}, which is not under way"
            )
        attempts = 1 if asked.first_answer is None else 2
        if isinstance(answer, EngineFailure):
            # An engine that fails on the second try must not cost the first answer's raw text.
            return Result(request_id, asked.first_answer or answer, attempts)
        self._metrics.prompt_tokens += answer.prompt_tokens
        self._metrics.generated_tokens += answer.generated_tokens
        reason = answer_defect(answer)
        if reason is None or attempts == 2:
            return Result(request_id, answer, attempts)
        self._metrics.retried += 1
        self._asked[request_id] = _Asked(asked.request, asked.load, first_answer=answer)
        self._retries.append((asked.request, retry_options(self._generation, reason)))
        return None

    def _answers_after(self, error: Exception) -> list[tuple[str, Completion | EngineFailure]]:
        """Answers to all that was under way when the engine failed."""
        under_way = list(self._batch.open)
        self._count_usage()
        # Nothing of the failed batch is on the device while its requests are asked again.
        self._batch = self._engine.start_batch(self._budget.rows)
        recovered = recover(
            error, under_way, self._traced_generate, rows=self._budget.rows, first_try=self._generation
        )
        if recovered.rows < self._budget.rows and self._listeners.warning is not None:
            self._listeners.warning(
                f"out of memory with {len(under_way)} of {self._budget.rows} places taken; the batch size is "
                f"{recovered.rows} from here on (set engine.batch_size to keep it)"
            )
        self._budget = replace(self._budget, rows=recovered.rows)
        self._metrics.batch_size = recovered.rows
        self._batch = self._engine.start_batch(self._budget.rows)
        return recovered.answers

    def _traced_generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        self._listeners.watch.alive()
        self._trace(requests)
        return self._engine.generate(requests, options)

    def _trace(self, requests: Iterable[Request]) -> None:
        """Tell what the requests of the first step hand to the model, each once."""
        if self._tell_inputs is None:
            return
        untold = [request for request in requests if request.id not in self._traced]
        if untold:
            self._tell_inputs(self._engine.trace_inputs(untold))
            self._traced.update(request.id for request in untold)

"""A running batch on vLLM, which refills its steps itself: answers are handed on one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stage_a_pipeline.engines.base import (
    ENGINE_ERROR,
    BatchUsage,
    Completion,
    EngineFailure,
    GenerationOptions,
    Request,
    Unanswered,
)
from stage_a_pipeline.errors import EngineDiedError, EngineError

if TYPE_CHECKING:
    from stage_a_pipeline.engines.vllm import VllmEngine
    from stage_a_pipeline.engines.vllm_library import News


@dataclass(slots=True)
class _Row:
    """A request under way, and the tokens that vLLM has told of its answer."""

    request: Request
    options: GenerationOptions
    answer: list[int] = field(default_factory=list)


class VllmBatch:
    """Requests are handed to vLLM when the batch is stepped; after an error it forgets all of them."""

    def __init__(self, engine: VllmEngine, places: int) -> None:
        assert places >= 1
        self.usage = BatchUsage()
        self._engine = engine
        self._places = places
        self._waiting: list[tuple[Request, GenerationOptions]] = []
        self._rows: dict[str, _Row] = {}

    @property
    def room(self) -> int:
        """See RunningBatch."""
        return self._places - len(self._rows) - len(self._waiting)

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return [*((row.request, row.options) for row in self._rows.values()), *self._waiting]

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        assert self.room > 0
        self._waiting.append((request, options))

    def step(self) -> Sequence[Completion | Unanswered]:
        """See RunningBatch."""
        assert self._waiting or self._rows
        with self._forgotten_on_error():
            if refused := self._refuse():
                return refused
            self._submit()
            ended: list[Completion] = []
            while not ended:
                ended = self._take(self._engine.vllm.step())
        return ended

    def _refuse(self) -> list[Unanswered]:
        """Those who wait without ever having room, which the others need not pay for."""
        told = [self._engine.lack_of_room(*waiting) for waiting in self._waiting]
        refused = [
            Unanswered(request.id, EngineFailure(ENGINE_ERROR, sentence))
            for (request, _), sentence in zip(self._waiting, told, strict=True)
            if sentence is not None
        ]
        self._waiting = [
            waiting for waiting, sentence in zip(self._waiting, told, strict=True) if sentence is None
        ]
        return refused

    def _submit(self) -> None:
        while self._waiting:
            request, options = self._waiting[0]
            name = self._engine.submit(request, options)
            self._rows[name] = _Row(request, options)
            del self._waiting[0]

    def _take(self, news: Sequence[News]) -> list[Completion]:
        """What a step brought; the completions of those that it ended."""
        # What was aborted may have been under way in the step before.
        own = [(item, self._rows[item.name]) for item in news if item.name in self._rows]
        self._count(own)
        return [completion for item, row in own if (completion := self._heard(item, row)) is not None]

    def _heard(self, item: News, row: _Row) -> Completion | None:
        for token in item.tokens:
            row.answer.append(token)
            reason = self._engine.end_of(row.answer, row.options)
            if reason is not None:
                if item.ended is None:
                    self._engine.vllm.abort([item.name])
                del self._rows[item.name]
                return self._engine.completion(row.request, row.answer, item.prompt_tokens, reason)
        if item.ended is not None:
            raise EngineError(
                f"vLLM ended the answer to {row.request.id} after {len(row.answer)} of "
                f"{row.options.max_new_tokens} tokens ({item.ended}), and not with a stop token"
            )
        return None

    def _count(self, own: Sequence[tuple[News, _Row]]) -> None:
        """The first token of an answer comes from its prompt: steps without any other only read prompts."""
        decoded = 0
        for item, row in own:
            if row.answer:
                decoded += len(item.tokens)
            else:
                self.usage.tokens += item.prompt_tokens - item.cached
        self.usage.tokens += decoded
        if decoded:
            self.usage.add(places=self._places, filled=decoded)

    @contextmanager
    def _forgotten_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Where vLLM is dead there is nobody to tell.
            with suppress(EngineDiedError, EngineError):
                self._engine.vllm.abort(list(self._rows))
            raise

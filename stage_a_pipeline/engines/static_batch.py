"""A running batch for engines that only know whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stage_a_pipeline.engines.base import (
    BatchUsage,
    Completion,
    GenerationOptions,
    Request,
    check_answers,
)

Generate = Callable[[Sequence[Request], GenerationOptions], list[Completion]]


class StaticBatch:
    """Gathers requests until it is stepped, then generates those with equal options together."""

    def __init__(self, generate: Generate, rows: int) -> None:
        assert rows >= 1
        self.usage = BatchUsage()
        self._generate = generate
        self._rows = rows
        self._open: list[tuple[Request, GenerationOptions]] = []

    @property
    def room(self) -> int:
        """See RunningBatch."""
        return self._rows - len(self._open)

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return self._open

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        assert self.room > 0
        self._open.append((request, options))

    def step(self) -> list[Completion]:
        """See RunningBatch. One call of the engine: requests with the options of the oldest one."""
        options = self._open[0][1]
        requests = [request for request, other in self._open if other == options]
        self.usage.add(places=self._rows, filled=len(requests))
        completions = self._generate(requests, options)
        check_answers(requests, completions)
        self.usage.compute([completion.prompt_tokens for completion in completions])
        self.usage.compute([completion.generated_tokens for completion in completions])
        self._open = [(request, other) for request, other in self._open if other != options]
        return completions

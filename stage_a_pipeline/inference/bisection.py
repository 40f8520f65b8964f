"""One answer or one reason per request, whatever the engine does to the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stage_a_pipeline.engines.base import Completion, Request
from stage_a_pipeline.errors import EngineContractError, EngineOutOfMemoryError


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """Why the engine has no completion for a request."""

    reason: str
    detail: str


Generate = Callable[[Sequence[Request]], list[Completion]]


def generate_bisecting(requests: Sequence[Request], generate: Generate) -> list[Completion | EngineFailure]:
    """Completions in request order; a batch that raises is halved until one request is left alone.

    Raises EngineContractError when answers do not match requests: they are never paired up by guessing.
    """
    if not requests:
        return []
    try:
        completions = generate(requests)
    except EngineOutOfMemoryError as error:
        failure = EngineFailure("out_of_memory", str(error))
    # Whatever a model raises for one photo must not take the others with it.
    except Exception as error:  # noqa: BLE001
        failure = EngineFailure("engine_error", f"{type(error).__name__}: {error}")
    else:
        _check_contract(requests, completions)
        return list(completions)
    if len(requests) == 1:
        return [failure]
    middle = len(requests) // 2
    return [
        result
        for half in (requests[:middle], requests[middle:])
        for result in generate_bisecting(half, generate)
    ]


def _check_contract(requests: Sequence[Request], completions: Sequence[Completion]) -> None:
    asked = [request.id for request in requests]
    answered = [completion.id for completion in completions]
    if asked != answered:
        place = next((i for i, (a, b) in enumerate(zip(asked, answered, strict=False)) if a != b), None)
        what = (
            f"{len(answered)} answers to {len(asked)} requests"
            if place is None
            else (f"an answer to {answered[place]!r} where {asked[place]!r} was asked")
        )
        raise EngineContractError(f"the engine broke its contract: {what}; nothing of this batch is kept")

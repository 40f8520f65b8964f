"""One answer or one reason per request, after an engine failed on all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stage_a_pipeline.engines.base import ENGINE_ERROR, Completion, EngineFailure, Request, check_answers
from stage_a_pipeline.errors import (
    EngineContractError,
    EngineDiedError,
    EngineOutOfMemoryError,
    OutputError,
    ServerError,
    StoppedError,
)

NOT_THE_ENGINE: Final = (EngineContractError, EngineDiedError, OutputError, ServerError, StoppedError)
"""What asking the same engine again would not mend, and is no fault of single photos."""

Generate = Callable[[Sequence[Request]], list[Completion]]


def generate_after_failure(
    error: Exception, requests: Sequence[Request], generate: Generate
) -> list[Completion | EngineFailure]:
    """Results in request order, where `error` was raised for all of `requests` together.

    They are asked again in halves, down to the one request that fails alone. Raises EngineContractError
    when answers do not match requests.
    """
    if len(requests) == 1:
        return [engine_failure(error)]
    middle = len(requests) // 2
    return [
        result
        for half in (requests[:middle], requests[middle:])
        for result in generate_bisecting(half, generate)
    ]


def generate_bisecting(requests: Sequence[Request], generate: Generate) -> list[Completion | EngineFailure]:
    """As `generate_after_failure`, for requests that were not asked together yet."""
    try:
        completions = generate(requests)
        check_answers(requests, completions)
        return list(completions)
    except NOT_THE_ENGINE:
        raise
    # Whatever a model raises for one photo must not take the others with it.
    except Exception as error:  # noqa: BLE001
        failure = without_frames(error)
    return generate_after_failure(failure, requests, generate)


def without_frames(error: Exception) -> Exception:
    """The error without the frames it came through: their tensors would fill the device meanwhile."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def engine_failure(error: Exception) -> EngineFailure:
    """What an engine raised for one photo, as its outcome."""
    if isinstance(error, EngineOutOfMemoryError):
        return EngineFailure("out_of_memory", str(error))
    return EngineFailure(ENGINE_ERROR, f"{type(error).__name__}: {error}")

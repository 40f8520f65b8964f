"""What a trace tells of a shard: its whole, some seconds of the engine at a time, and a photo now and then.

The number of spans is bounded by time and by the share of photos in the settings: there is none per token or
step. No span holds what a model said.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from stage_a_pipeline.engines.base import Completion
from stage_a_pipeline.inference.asking import request_id
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.records import ImageRef, Outcome, Rejection
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.telemetry.spans import (
    ANSWER_PHOTO,
    ENGINE_STEPS,
    NO_SPAN,
    PHOTO,
    SHARD,
    WORK,
    Attributes,
    Span,
)
from stage_a_pipeline.telemetry.traces import Origin, traced

if TYPE_CHECKING:
    from stage_a_pipeline.engines.base import EngineFailure
    from stage_a_pipeline.inference.shard import ShardTask

STEP_SECONDS: Final = 10.0
"""How much of the engine's work one span tells of, at least."""

_SHARES: Final = 1 << 32


def shard_trace(shard: ShardTask, warning: Callable[[str], None]) -> AbstractContextManager[Span]:
    """The span of a shard, with which the trace of its run begins in this process. Raises as `traced`."""
    return traced(shard.settings.telemetry, Origin(shard.run_id), SHARD, shard_attributes(shard), warning)


def worker_trace(
    shard: ShardTask, traceparent: str | None, warning: Callable[[str], None]
) -> AbstractContextManager[Span]:
    """The span of what a worker process does, below the run's own. Raises as `traced`."""
    origin = Origin(shard.run_id, traceparent)
    return traced(shard.settings.telemetry, origin, WORK, shard_attributes(shard), warning)


def shard_attributes(shard: ShardTask) -> Attributes:
    """What is asked, where, and by which engine."""
    return {
        "stage_a.run_id": shard.run_id,
        "stage_a.missions": shard.missions,
        "stage_a.device": shard.worker.key,
        "stage_a.photos": len(shard.refs),
        **engine_attributes(shard.settings),
    }


def engine_attributes(settings: Settings) -> Attributes:
    """The engine and its model, without the folder that holds it."""
    engine = settings.engine
    model = engine.server_model if engine.engine == "openai" else PurePath(engine.checkpoint).name
    return {"stage_a.engine": engine.engine, "gen_ai.request.model": model or ""}


class StepSpans:
    """One span per some seconds of steps, with what was done in them. Called from the device's thread."""

    def __init__(
        self,
        above: Span,
        metrics: ShardMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = STEP_SECONDS,
    ) -> None:
        self._above = above
        self._metrics = metrics
        self._clock = clock
        self._seconds = seconds
        self._open = NO_SPAN
        self._before = ShardMetrics()
        self._since = 0.0

    def begin(self) -> None:
        """A step is about to be made."""
        if self._open is NO_SPAN and self._above.is_recorded:
            self._open = self._above.child(ENGINE_STEPS)
            self._before, self._since = self._metrics.copy(), self._clock()

    def end(self) -> None:
        """A step was made, and is counted."""
        if self._open is not NO_SPAN and self._clock() - self._since >= self._seconds:
            self.close()

    def close(self) -> None:
        """No further step belongs to the span that is open."""
        if self._open is NO_SPAN:
            return
        before, now = self._before, self._metrics
        places = now.places - before.places
        self._open.set(
            {
                "stage_a.steps": now.steps - before.steps,
                "stage_a.answers": now.inferred - before.inferred,
                "stage_a.batch_fill": (now.filled_places - before.filled_places) / places if places else 0.0,
                "stage_a.device_seconds": now.device_seconds - before.device_seconds,
                "stage_a.waiting_seconds": now.waiting_seconds - before.waiting_seconds,
                "gen_ai.usage.input_tokens": now.prompt_tokens - before.prompt_tokens,
                "gen_ai.usage.output_tokens": now.generated_tokens - before.generated_tokens,
            }
        )
        self._open.end()
        self._open = NO_SPAN


@dataclass(slots=True)
class PhotoSpan:
    """The span of one photo, and of its answer once it is asked."""

    whole: Span = NO_SPAN
    answer: Span = NO_SPAN

    def asked(self) -> None:
        """The photo is put under way."""
        self.answer = self.whole.child(ANSWER_PHOTO)

    def answered(self, answer: Completion | EngineFailure, attempts: int) -> None:
        """The last word on it was said."""
        self.answer.set({"stage_a.attempts": attempts})
        if isinstance(answer, Completion):
            self.answer.set(
                {
                    "gen_ai.usage.input_tokens": answer.prompt_tokens,
                    "gen_ai.usage.output_tokens": answer.generated_tokens,
                    "gen_ai.response.finish_reasons": [answer.finish_reason],
                }
            )
        else:
            self.answer.fail(answer.reason)
        self.answer.end()

    def ended(self, outcome: Outcome | None = None) -> None:
        """The photo has its outcome; None where it was not asked, since it is answered elsewhere."""
        if isinstance(outcome, Rejection):
            self.whole.fail(outcome.reason)
        self.whole.end()


class PhotoSpans:
    """Spans of a share of the photos, always of the same ones."""

    def __init__(self, above: Span = NO_SPAN, share: float = 0.0) -> None:
        self._above = above
        self._bound = int(share * _SHARES) if above.is_recorded else 0

    def begin(self, ref: ImageRef) -> PhotoSpan:
        """The span of a photo that is about to be read. Called from any thread."""
        if not self._bound:
            return PhotoSpan()
        name = request_id(ref)
        if int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >= self._bound:
            return PhotoSpan()
        attributes = {"stage_a.photo": name, "stage_a.mission": ref.group.mission}
        return PhotoSpan(self._above.child(PHOTO, attributes))

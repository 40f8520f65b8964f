"""Spans of a trace, as those who are traced see them: a parent that is passed in, and its children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol

SHARD: Final = "stage_a.shard"
"""All that is done for one device's photos, in the run's process."""
WORKER: Final = "stage_a.worker"
"""The life of one worker process, as the run sees it."""
WORK: Final = "stage_a.work"
"""What that process does, from when it can tell."""
REMEMBERED: Final = "stage_a.remembered_photos"
WAIT_FOR_DEVICE: Final = "stage_a.wait_for_device"
LOAD_MODEL: Final = "stage_a.load_model"
ASK_PHOTOS: Final = "stage_a.ask_photos"
ENGINE_STEPS: Final = "stage_a.engine_steps"
"""Some seconds of the engine's work: one span for many steps."""
PHOTO: Final = "stage_a.photo"
READ_PHOTO: Final = "stage_a.read_photo"
DECODE_PHOTO: Final = "stage_a.decode_photo"
ANSWER_PHOTO: Final = "stage_a.answer_photo"

SPAN_NAMES: Final = (
    SHARD,
    WORKER,
    WORK,
    REMEMBERED,
    WAIT_FOR_DEVICE,
    LOAD_MODEL,
    ASK_PHOTOS,
    ENGINE_STEPS,
    PHOTO,
    READ_PHOTO,
    DECODE_PHOTO,
    ANSWER_PHOTO,
)
"""All of them."""

Attributes = Mapping[str, str | bool | int | float | Sequence[str]]
"""By the names of OpenTelemetry's semantic conventions where there is one, otherwise `stage_a.*`."""


class Span(Protocol):
    """A stretch of time with a name. It may be begun and ended on different threads."""

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will see it."""

    @property
    def traceparent(self) -> str | None:
        """By which another process continues here (W3C Trace Context); None where nothing is recorded."""

    def child(self, name: str, attributes: Attributes | None = None) -> Span:
        """Begin a span below this one; leaving its block ends it, and an error on the way fails it."""

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""

    def fail(self, kind: str) -> None:
        """Mark it as failed, by a short stable code."""

    def end(self) -> None:
        """Its time is over."""

    def __enter__(self) -> Span: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class UnseenSpan:
    """A span that nobody will see, and all of its children."""

    is_recorded = False
    traceparent = None

    def child(self, name: str, attributes: Attributes | None = None) -> Span:  # noqa: ARG002
        """See Span."""
        return self

    def set(self, attributes: Attributes) -> None:
        """See Span."""

    def fail(self, kind: str) -> None:
        """See Span."""

    def end(self) -> None:
        """See Span."""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See Span."""


NO_SPAN: Final[Span] = UnseenSpan()
"""The parent where nothing is traced."""

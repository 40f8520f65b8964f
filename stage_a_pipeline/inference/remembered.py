"""The photos with which a shard begins that earlier runs have finished: told without device or model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe, answer_fingerprint
from stage_a_pipeline.inference.conclusions import summary, unreadable
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.lookahead import Lookahead
from stage_a_pipeline.inference.metrics import Progress, Queue, ShardMetrics
from stage_a_pipeline.photo_source import ON_DISK, PhotoSource
from stage_a_pipeline.records import ImageRef, Outcome, Rejection, Summary


def remembered_outcomes(
    refs: Sequence[ImageRef],
    journal: Journal,
    recipes: Mapping[str, Recipe],
    generation: GenerationOptions,
    batching: BatchingOptions,
    *,
    metrics: ShardMetrics,
    listeners: Listeners,
    photos: PhotoSource = ON_DISK,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """The outcomes of photos from the first on, in order, up to one that must be asked.

    Those that cannot be read are rejected on the way. They are counted in `metrics`.
    """

    def look(ref: ImageRef) -> str | Rejection:
        try:
            return photos.content_hash(ref.image.path)
        except PhotoError as error:
            return unreadable(ref, error, None)

    started = clock()
    ahead = Lookahead(look, refs, workers=batching.decode_workers, window=batching.batch_size)
    with closing(iter(ahead)) as looked_at:
        for ref, found in zip(refs, looked_at, strict=False):
            listeners.watch.alive()
            outcome = _outcome(ref, found, journal, recipes, greedy=generation.greedy)
            if outcome is None:
                return
            if isinstance(outcome, Rejection) and listeners.warning is not None:
                listeners.warning(f"photo rejected ({outcome.reason}): {outcome.detail}")
            count(outcome, metrics, seconds=clock() - started)
            due = metrics.photos % batching.batch_size == 0 or metrics.photos == len(refs)
            if due and listeners.progress is not None:
                listeners.progress(progress(metrics, total=len(refs)))
            yield outcome


def _outcome(
    ref: ImageRef, found: str | Rejection, journal: Journal, recipes: Mapping[str, Recipe], *, greedy: bool
) -> Outcome | None:
    if isinstance(found, Rejection):
        return found
    answer = journal.find(found, answer_fingerprint(recipes[ref.group.mission], ref, greedy=greedy))
    return None if answer is None else summary(ref, found, answer, reused=True)


def count(outcome: Outcome, metrics: ShardMetrics, *, seconds: float) -> None:
    """Count one more photo as ended, so many seconds after the first was begun."""
    metrics.photos += 1
    if isinstance(outcome, Rejection):
        metrics.count_rejection(outcome.stage, outcome.reason)
    metrics.reused += isinstance(outcome, Summary) and outcome.reused
    metrics.seconds = seconds


def progress(metrics: ShardMetrics, *, total: int, queue: Queue | None = None) -> Progress:
    """How far a shard of so many photos is."""
    return Progress(total, metrics.copy(), queue or Queue())

"""Mechanism: photos ahead -> under way together, across groups -> one outcome per photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import closing
from dataclasses import replace
from typing import Final

from stage_a_pipeline.engines.base import Engine, GenerationOptions, Request
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.asking import (
    BatchingOptions,
    Listeners,
    PhotoKey,
    Questions,
    Recipe,
    request_id,
)
from stage_a_pipeline.inference.batching import may_join
from stage_a_pipeline.inference.claims import PhotoClaims
from stage_a_pipeline.inference.conclusions import answer_of, same_for, summary, unreadable, unusable
from stage_a_pipeline.inference.elsewhere import AskedElsewhere
from stage_a_pipeline.inference.in_flight import InFlight, Result
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import Queue, ShardMetrics
from stage_a_pipeline.inference.photos_ahead import Photo, PhotosAhead
from stage_a_pipeline.inference.remembered import count, progress
from stage_a_pipeline.inference.tracing import PhotoSpans
from stage_a_pipeline.photo_source import ON_DISK, PhotoSource
from stage_a_pipeline.records import ImageRef, Outcome, Rejection

_COMMIT_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 1.0


class ShardScheduler:
    """Runs the photos of one shard through one engine.

    Every photo ends exactly once, as a Summary or a Rejection; what an engine may do to it on the way is
    told in InFlight. A photo over which a worker has died is decoded and asked alone, and not at all
    when that has happened twice. At most two batches of decoded photos exist at a time: one under way,
    within the budget of tokens and pixels, and one ahead. Within windows, photos are asked in order of
    their size; with batches per group they are not. Outcomes are told once the journal keeps them, after
    `batch_size` of them or half a second. With `claims`, a photo whose bytes another process is asking
    waits for that answer. Raises EngineContractError when the engine's answers do not match its requests,
    JournalError and OutputError from the journal.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        recipes: Mapping[str, Recipe],
        generation: GenerationOptions,
        batching: BatchingOptions,
        *,
        photos: PhotoSource = ON_DISK,
        claims: PhotoClaims | None = None,
        listeners: Listeners | None = None,
        metrics: ShardMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        photo_spans: PhotoSpans | None = None,
    ) -> None:
        self.metrics = metrics or ShardMetrics()
        self._journal = journal
        self._recipes = recipes
        self._batching = batching
        self._listeners = listeners or Listeners()
        self._watch = self._listeners.watch
        self._clock = clock
        self._questions = Questions(recipes, greedy=generation.greedy)
        self._in_flight = InFlight(
            engine,
            batching.budget,
            generation,
            self.metrics,
            listeners=self._listeners,
            clock=clock,
        )
        self._ahead = PhotosAhead(
            engine,
            journal,
            self._questions,
            batching,
            photos=photos,
            watch=self._watch,
            metrics=self.metrics,
            clock=clock,
            spans=photo_spans,
        )
        # Sampled answers belong to one place in the run: there is nothing to share.
        shared = claims if generation.greedy else None
        self._elsewhere = AskedElsewhere(journal, shared, alive=self._watch.alive)
        self._open: dict[str, Photo] = {}
        self._open_group: int | None = None
        self._concluded: list[tuple[Photo, Outcome]] = []
        self._committed = clock()
        self._total = self._reported = 0
        self._queue_told = clock() - _TELL_SECONDS
        self._twins: dict[PhotoKey, list[ImageRef]] = {}
        self._rejected: dict[PhotoKey, Rejection] = {}

    def run(self, refs: Iterable[ImageRef]) -> Iterator[Outcome]:
        """Outcomes as they come: one per photo of `refs`, in no promised order. To be called once.

        Photos that `metrics` counted before belong to the shard as well. Where `refs` have no length, more
        may come while it runs; progress then tells no total.
        """
        ahead = len(refs) if isinstance(refs, Sized) else 0
        self._total, started = self.metrics.photos + ahead, self._clock() - self.metrics.seconds
        for outcome in self._outcomes(refs):
            count(outcome, self.metrics, seconds=self._clock() - started)
            yield outcome
        self._report_progress()

    def _outcomes(self, refs: Iterable[ImageRef]) -> Iterator[Outcome]:
        with closing(self._in_flight):
            yield from self._outcomes_of(refs)
            while self._elsewhere:
                yield from self._outcomes_of(self._elsewhere.given_up())
                yield from self._elsewhere.answered()

    def _outcomes_of(self, refs: Iterable[ImageRef]) -> Iterator[Outcome]:
        """Those of some photos; of one that another process is asking just now, none yet."""
        with closing(self._ahead.of(refs)) as ahead:
            for item in ahead:
                self._watch.alive()
                if isinstance(item, Rejection):
                    self._warn(f"photo rejected ({item.reason}): {item.detail}")
                    yield item
                else:
                    yield from self._outcomes_from(item)
                yield from self._commit_if_due()
        yield from self._finish_open()

    def _outcomes_from(self, photo: Photo) -> Iterator[Outcome]:
        """The photo's outcome where it is known already, or what comes of asking."""
        key = self._key(photo)
        if key in self._twins:
            self._twins[key].append(photo.ref)
        elif key in self._rejected:
            yield replace(self._rejected[key], ref=photo.ref)
        elif (answer := self._journal.find(*key)) is not None:
            yield summary(photo.ref, photo.content_sha256, answer, reused=True)
        elif not self._elsewhere.claim(key):
            self._elsewhere.defer(photo.ref, key)
        elif (answer := self._journal.find(*key)) is not None:
            self._elsewhere.release(key)
            yield summary(photo.ref, photo.content_sha256, answer, reused=True)
        else:
            self._twins[key] = []
            yield from self._ask(photo) if photo.suspect is None else self._ask_alone(photo)
            return
        photo.span.ended()

    def _ask(self, photo: Photo) -> Iterator[Outcome]:
        """Put the photo under way once it is admitted, and let the engine work while nobody else could be."""
        if photo.failure is not None:
            self._take(photo, Result(request_id(photo.ref), photo.failure, attempts=1))
            return
        if not may_join(photo.ref.group_index, self._open_group, mode=self._batching.mode):
            yield from self._finish_open()
        self._open_group = photo.ref.group_index
        request = self._request(photo)
        while not self._in_flight.admits(request):
            yield from self._advance()
        self._watch.begin(self._questions.ordeal(photo.ref, photo.content_sha256, photo.crashes))
        self._in_flight.add(request)
        photo.span.asked()
        # The pixels live in the request alone, which the engine drops when the photo is done.
        self._open[request.id] = photo.without_pixels()
        while not self._in_flight.room:
            yield from self._advance()

    def _ask_alone(self, photo: Photo) -> Iterator[Outcome]:
        """Decode and ask a photo while nothing else goes on, so that it alone is to blame for a crash."""
        yield from self._finish_open()
        self._ahead.settle()
        try:
            decoded = self._ahead.decoded(photo)
        except PhotoError as error:
            self._warn(f"photo rejected ({error.reason}): {error}")
            self._elsewhere.release(self._key(photo))
            for ref in (photo.ref, *self._twins.pop(self._key(photo))):
                yield unreadable(ref, error, photo.content_sha256)
            photo.span.ended(unreadable(photo.ref, error, photo.content_sha256))
            return
        yield from self._ask(decoded)
        yield from self._finish_open()

    def _finish_open(self) -> Iterator[Outcome]:
        while self._in_flight:
            yield from self._advance()
        self._open_group = None
        yield from self._commit()

    def _advance(self) -> Iterator[Outcome]:
        self._watch.alive()
        # Between batches nothing is under way: what is in a step is told before it.
        if (now := self._clock()) - self._queue_told >= _TELL_SECONDS:
            self._queue_told = now
            self._tell_progress()
        for result in self._in_flight.step():
            self._watch.end(result.request_id)
            self._take(self._open.pop(result.request_id), result)
        yield from self._commit_if_due()

    def _commit_if_due(self) -> Iterator[Outcome]:
        full = len(self._concluded) >= self._batching.batch_size
        if full or self._clock() - self._committed >= _COMMIT_SECONDS:
            yield from self._commit()

    def _commit(self) -> Iterator[Outcome]:
        """Concluded outcomes and those of the same photos elsewhere, now that the journal keeps them."""
        concluded, self._concluded = self._concluded, []
        if concluded:
            self._journal.commit()
        self._committed = self._clock()
        for photo, outcome in concluded:
            self._elsewhere.release(self._key(photo))
            yield outcome
            if isinstance(outcome, Rejection):
                self._rejected[self._key(photo)] = outcome
            for twin in self._twins.pop(self._key(photo)):
                yield same_for(twin, outcome)
        # Whoever puts the outcomes in order waits for these.
        yield from self._elsewhere.answered()
        self._report_progress()

    def _take(self, photo: Photo, result: Result) -> None:
        outcome = self._conclude(photo, result)
        photo.span.answered(result.answer, result.attempts)
        photo.span.ended(outcome)
        self._concluded.append((photo.without_pixels(), outcome))
        self.metrics.inferred += 1

    def _conclude(self, photo: Photo, result: Result) -> Outcome:
        """The outcome of an asked photo, written to the journal."""
        name, mission, sha256 = request_id(photo.ref), photo.ref.group.mission, photo.content_sha256
        fingerprint = self._questions.fingerprint(photo.ref)
        rejection = unusable(photo.ref, sha256, result)
        if rejection is None:
            answer = answer_of(result)
            self._journal.append_answer(mission, name, sha256, fingerprint, answer)
            return summary(photo.ref, sha256, answer, reused=False)
        self._journal.append_failure(
            mission, name, sha256, fingerprint, reason=rejection.reason, attempts=rejection.attempts
        )
        self._warn(f"photo rejected ({rejection.reason}): {rejection.detail}")
        return rejection

    def _request(self, photo: Photo) -> Request:
        assert photo.pixels is not None
        recipe = self._recipes[photo.ref.group.mission]
        return Request(request_id(photo.ref), photo.pixels, recipe.prompt, recipe.grammar)

    def _key(self, photo: Photo) -> PhotoKey:
        return photo.content_sha256, self._questions.fingerprint(photo.ref)

    def _report_progress(self) -> None:
        if self.metrics.photos != self._reported:
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._reported = self.metrics.photos
        if self._listeners.progress is not None:
            queue = Queue(self._ahead.ready, len(self._in_flight))
            self._listeners.progress(progress(self.metrics, total=self._total, queue=queue))

    def _warn(self, sentence: str) -> None:
        if self._listeners.warning is not None:
            self._listeners.warning(sentence)

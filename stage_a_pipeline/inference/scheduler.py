"""Mechanism: photos ahead -> under way together, across groups -> one outcome per photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from stage_a_pipeline.engines.base import Engine, GenerationOptions, Request
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import PhotoFile, decode_photo, read_photo
from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import (
    BatchingOptions,
    Listeners,
    Recipe,
    answer_defect,
    answer_fingerprint,
    request_id,
)
from stage_a_pipeline.inference.batching import may_join
from stage_a_pipeline.inference.bisection import EngineFailure
from stage_a_pipeline.inference.claims import PhotoClaims
from stage_a_pipeline.inference.in_flight import InFlight, Result
from stage_a_pipeline.inference.journal import Answer, Fingerprint, Journal, Ordeal
from stage_a_pipeline.inference.lookahead import Lookahead
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.remembered import count, progress, summary, unreadable
from stage_a_pipeline.records import ImageRef, Outcome, Rejection, Summary

if TYPE_CHECKING:
    from PIL.Image import Image

_COMMIT_SECONDS = 0.5
_POLL_SECONDS = 0.2
_Key = tuple[str, Fingerprint]
MOST_CRASHES = 2
"""So often a process may die over a photo before the photo is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class _Suspect:
    """A photo's file that is not decoded yet, since a process has died over it so often."""

    file: PhotoFile
    crashes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Photo:
    """A photo that was read; decoded only if no answer to it was known then, and nobody died over it."""

    ref: ImageRef
    content_sha256: str
    image: Image | None
    seconds: float
    suspect: _Suspect | None = None


class ShardScheduler:
    """Runs the photos of one shard through one engine.

    Every photo ends exactly once, as a Summary or a Rejection; what an engine may do to it on the way is
    told in InFlight. A photo over which a worker has died is decoded and asked alone, and not at all
    when that has happened twice. At most two batches of decoded photos exist at a time: one under way, and
    one ahead. Outcomes are told once the journal keeps them, after `batch_size` of them or half a second.
    With `claims`, a photo whose bytes another process is asking waits for that answer. Raises
    EngineContractError when the engine's answers do not match its requests, JournalError and OutputError
    from the journal.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        recipes: Mapping[str, Recipe],
        generation: GenerationOptions,
        batching: BatchingOptions,
        *,
        claims: PhotoClaims | None = None,
        listeners: Listeners | None = None,
        metrics: ShardMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = metrics or ShardMetrics()
        self._claims = claims
        self._engine = engine
        self._journal = journal
        self._recipes = recipes
        self._generation = generation
        self._batching = batching
        self._listeners = listeners or Listeners()
        self._watch = self._listeners.watch
        self._clock = clock
        self._in_flight = InFlight(
            engine,
            batching.batch_size,
            generation,
            self.metrics,
            listeners=self._listeners,
            clock=clock,
        )
        self._ahead: Lookahead[ImageRef, _Photo | Rejection]
        self._open: dict[str, _Photo] = {}
        self._open_group: int | None = None
        self._concluded: list[tuple[_Photo, Outcome]] = []
        self._committed = clock()
        self._total = self._reported = 0
        self._decoding: set[str] = set()
        self._twins: dict[_Key, list[ImageRef]] = {}
        self._rejected: dict[_Key, Rejection] = {}
        self._deferred: list[tuple[ImageRef, _Key]] = []

    def run(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        """Outcomes as they come: one per photo of `refs`, in no promised order. To be called once.

        Photos that `metrics` counted before belong to the shard as well.
        """
        self._total, started = self.metrics.photos + len(refs), self._clock() - self.metrics.seconds
        for outcome in self._outcomes(refs):
            count(outcome, self.metrics, seconds=self._clock() - started)
            yield outcome
        self._report_progress()

    def _outcomes(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        with closing(self._in_flight):
            yield from self._outcomes_of(refs)
            while self._deferred:
                yield from self._outcomes_of(self._given_up_elsewhere())
                yield from self._answered_elsewhere()

    def _outcomes_of(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        """Those of some photos; of one that another process is asking just now, none yet."""
        for item in self._photos_ahead(refs):
            self._watch.alive()
            if isinstance(item, Rejection):
                self._warn(f"photo rejected ({item.reason}): {item.detail}")
                yield item
            else:
                yield from self._outcomes_from(item)
            yield from self._commit_if_due()
        yield from self._finish_open()

    def _outcomes_from(self, photo: _Photo) -> Iterator[Outcome]:
        """The photo's outcome where it is known already, or what comes of asking."""
        key = self._key(photo)
        if key in self._twins:
            self._twins[key].append(photo.ref)
        elif key in self._rejected:
            yield replace(self._rejected[key], ref=photo.ref)
        elif (answer := self._journal.find(*key)) is not None:
            yield summary(photo.ref, photo.content_sha256, answer, reused=True)
        elif not self._claim(key):
            self._deferred.append((photo.ref, key))
        elif (answer := self._journal.find(*key)) is not None:
            self._release(key)
            yield summary(photo.ref, photo.content_sha256, answer, reused=True)
        else:
            self._twins[key] = []
            yield from self._ask(photo) if photo.suspect is None else self._ask_alone(photo, photo.suspect)

    def _claim(self, key: _Key) -> bool:
        """Whether the photo is ours to ask. The journal knows then what others answered before."""
        if self._claims is None or not self._generation.greedy:
            return True
        if not self._claims.take(answer_key(*key)):
            return False
        self._journal.look_around()
        return True

    def _is_free(self, key: _Key) -> bool:
        free = self._claim(key)
        self._release(key)
        return free

    def _release(self, key: _Key) -> None:
        if self._claims is not None:
            self._claims.release(answer_key(*key))

    def _answered_elsewhere(self) -> Iterator[Outcome]:
        """The outcomes of deferred photos that others have answered."""
        if not self._deferred:
            return
        self._journal.look_around()
        deferred, self._deferred = self._deferred, []
        for ref, key in deferred:
            if (answer := self._journal.find(*key)) is not None:
                yield summary(ref, key[0], answer, reused=True)
            else:
                self._deferred.append((ref, key))

    def _given_up_elsewhere(self) -> list[ImageRef]:
        """Deferred photos that nobody asks any more, and nobody has answered; none at the first answer."""
        while True:
            self._watch.alive()
            self._journal.look_around()
            if any(self._journal.knows(*key) for _, key in self._deferred):
                return []
            free = {key for _, key in self._deferred if self._is_free(key)}
            if free:
                refs = [ref for ref, key in self._deferred if key in free]
                self._deferred = [waiting for waiting in self._deferred if waiting[1] not in free]
                return refs
            time.sleep(_POLL_SECONDS)

    def _photos_ahead(self, refs: Sequence[ImageRef]) -> Iterator[_Photo | Rejection]:
        self._ahead = Lookahead(
            self._read,
            refs,
            workers=self._batching.decode_workers,
            window=self._batching.batch_size,
            while_waiting=self._wait_for_photo,
        )
        photos = iter(self._ahead)
        while True:
            asked = self._clock()
            item = next(photos, None)
            self.metrics.waiting_seconds += self._clock() - asked
            if item is None:
                return
            if isinstance(item, _Photo):
                self.metrics.decode_seconds += item.seconds
            yield item
            # The caller's batch alone shall keep the photo alive.
            del item

    def _read(self, ref: ImageRef) -> _Photo | Rejection:
        """Runs on the decoding threads."""
        started = self._clock()
        sha256 = None
        try:
            file = read_photo(ref.image.path)
            sha256 = file.sha256
            if self._journal.knows(sha256, self._answer_fingerprint(ref)):
                return _Photo(ref, sha256, None, self._clock() - started)
            if crashes := self._journal.crashes(sha256, self._answer_fingerprint(ref)):
                return self._suspect(ref, _Suspect(file, crashes))
            image = self._decode(ref, file)
        except PhotoError as error:
            return unreadable(ref, error, sha256)
        return _Photo(ref, sha256, image, self._clock() - started)

    def _decode(self, ref: ImageRef, file: PhotoFile, crashes: int = 0) -> Image:
        fit = partial(self._engine.target_size, max_pixels=self._recipes[ref.group.mission].max_pixels)
        with self._watched(ref, file.sha256, crashes):
            return decode_photo(file, fit=fit)

    def _suspect(self, ref: ImageRef, suspect: _Suspect) -> _Photo | Rejection:
        sha256, crashes = suspect.file.sha256, suspect.crashes
        if crashes < MOST_CRASHES:
            return _Photo(ref, sha256, None, 0.0, suspect)
        detail = (
            f"{request_id(ref)}: a worker process died {crashes} times over this photo; it is left out until "
            "the settings, the checkpoint or the photo change"
        )
        return Rejection(ref, "summarise", "crashed", detail, content_sha256=sha256, attempts=crashes)

    @contextmanager
    def _watched(self, ref: ImageRef, sha256: str, crashes: int) -> Iterator[None]:
        self._watch.begin(self._ordeal(ref, sha256, crashes))
        name = request_id(ref)
        self._decoding.add(name)
        try:
            yield
        finally:
            self._decoding.remove(name)
            self._watch.end(name)

    def _wait_for_photo(self) -> None:
        """A slow disk is no sign that the shard hangs; a photo that is not decoded in time is one."""
        if not self._decoding:
            self._watch.alive()

    def _ordeal(self, ref: ImageRef, sha256: str, crashes: int) -> Ordeal:
        return Ordeal(request_id(ref), ref.group.mission, sha256, self._answer_fingerprint(ref), crashes)

    def _ask(self, photo: _Photo) -> Iterator[Outcome]:
        """Put the photo under way, and let the engine work while there is no room for another one."""
        if not may_join(photo.ref.group_index, self._open_group, mode=self._batching.mode):
            yield from self._finish_open()
        self._open_group = photo.ref.group_index
        request = self._request(photo)
        crashes = photo.suspect.crashes if photo.suspect is not None else 0
        self._watch.begin(self._ordeal(photo.ref, photo.content_sha256, crashes))
        self._in_flight.add(request)
        # The pixels live in the request alone, which the engine drops when the photo is done.
        self._open[request.id] = replace(photo, image=None, suspect=None)
        while not self._in_flight.room:
            yield from self._advance()

    def _ask_alone(self, photo: _Photo, suspect: _Suspect) -> Iterator[Outcome]:
        """Decode and ask a photo while nothing else goes on, so that it alone is to blame for a crash."""
        yield from self._finish_open()
        self._ahead.settle()
        try:
            image = self._decode(photo.ref, suspect.file, suspect.crashes)
        except PhotoError as error:
            self._warn(f"photo rejected ({error.reason}): {error}")
            self._release(self._key(photo))
            for ref in (photo.ref, *self._twins.pop(self._key(photo))):
                yield unreadable(ref, error, photo.content_sha256)
            return
        yield from self._ask(replace(photo, image=image))
        yield from self._finish_open()

    def _finish_open(self) -> Iterator[Outcome]:
        while self._in_flight:
            yield from self._advance()
        self._open_group = None
        yield from self._commit()

    def _advance(self) -> Iterator[Outcome]:
        self._watch.alive()
        for result in self._in_flight.step():
            self._watch.end(result.request_id)
            photo = self._open.pop(result.request_id)
            self._concluded.append((photo, self._conclude(photo, result)))
            self.metrics.inferred += 1
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
            self._release(self._key(photo))
            yield outcome
            if isinstance(outcome, Rejection):
                self._rejected[self._key(photo)] = outcome
            for twin in self._twins.pop(self._key(photo)):
                yield _same_for(twin, outcome)
        # Whoever puts the outcomes in order waits for these.
        yield from self._answered_elsewhere()
        self._report_progress()

    def _conclude(self, photo: _Photo, result: Result) -> Outcome:
        """The outcome of an asked photo, written to the journal."""
        name, mission, sha256 = request_id(photo.ref), photo.ref.group.mission, photo.content_sha256
        fingerprint = self._answer_fingerprint(photo.ref)
        rejection = _rejection(photo, result)
        if rejection is None:
            answer = _answer(result)
            self._journal.append_answer(mission, name, sha256, fingerprint, answer)
            return summary(photo.ref, sha256, answer, reused=False)
        self._journal.append_failure(
            mission, name, sha256, fingerprint, reason=rejection.reason, attempts=rejection.attempts
        )
        self._warn(f"photo rejected ({rejection.reason}): {rejection.detail}")
        return rejection

    def _request(self, photo: _Photo) -> Request:
        assert photo.image is not None
        recipe = self._recipes[photo.ref.group.mission]
        return Request(request_id(photo.ref), photo.image, recipe.prompt, recipe.grammar)

    def _key(self, photo: _Photo) -> _Key:
        return photo.content_sha256, self._answer_fingerprint(photo.ref)

    def _answer_fingerprint(self, ref: ImageRef) -> Fingerprint:
        return answer_fingerprint(self._recipes[ref.group.mission], ref, greedy=self._generation.greedy)

    def _report_progress(self) -> None:
        if self._listeners.progress is not None and self.metrics.photos != self._reported:
            self._reported = self.metrics.photos
            self._listeners.progress(progress(self.metrics, total=self._total))

    def _warn(self, sentence: str) -> None:
        if self._listeners.warning is not None:
            self._listeners.warning(sentence)


def _rejection(photo: _Photo, result: Result) -> Rejection | None:
    """Why the result cannot stand as a summary; None when it can."""
    name, answer, raw_text = request_id(photo.ref), result.answer, None
    if isinstance(answer, EngineFailure):
        reason, detail = answer.reason, f"{name}: {answer.detail}"
    else:
        defect = answer_defect(answer)
        if defect is None:
            return None
        reason, raw_text = defect, answer.text
        detail = (
            f"{name}: the answer is {reason} after {result.attempts} attempts "
            f"({answer.generated_tokens} tokens); its raw text stands in the rejected lines"
        )
    return Rejection(
        photo.ref,
        "summarise",
        reason,
        detail,
        raw_text=raw_text,
        content_sha256=photo.content_sha256,
        attempts=result.attempts,
    )


def _answer(result: Result) -> Answer:
    assert not isinstance(result.answer, EngineFailure)
    return Answer(
        raw_text=result.answer.text,
        finish_reason=result.answer.finish_reason,
        prompt_tokens=result.answer.prompt_tokens,
        generated_tokens=result.answer.generated_tokens,
        attempts=result.attempts,
    )


def _same_for(twin: ImageRef, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Summary):
        return replace(outcome, ref=twin, reused=True)
    return replace(outcome, ref=twin)

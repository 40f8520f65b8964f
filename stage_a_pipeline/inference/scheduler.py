"""Mechanism: photos ahead -> batches across groups -> engine -> one outcome per photo."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from stage_a_pipeline.engines.base import Completion, Engine, GenerationOptions, Request
from stage_a_pipeline.errors import EngineOutOfMemoryError, PhotoError
from stage_a_pipeline.images import decode_photo, read_photo
from stage_a_pipeline.inference.asking import (
    BatchingOptions,
    Listeners,
    Recipe,
    answer_defect,
    answer_fingerprint,
    request_id,
    retry_options,
)
from stage_a_pipeline.inference.batching import next_batch_size
from stage_a_pipeline.inference.bisection import EngineFailure, generate_bisecting
from stage_a_pipeline.inference.journal import Answer, Fingerprint, Journal
from stage_a_pipeline.inference.lookahead import map_ahead
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.records import ImageRef, Outcome, Rejection, Summary

if TYPE_CHECKING:
    from PIL.Image import Image

_REPORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Photo:
    """A photo that was read; decoded only if no answer to it was known then."""

    ref: ImageRef
    content_sha256: str
    image: Image | None
    seconds: float


class ShardScheduler:
    """Runs the photos of one shard through one engine.

    Every photo ends exactly once, as a Summary or a Rejection. At most two batches of decoded photos
    exist at a time. A batch that raises is halved down to the guilty photo; out of memory lowers the
    batch size for good; an unusable answer is asked for once more. Raises EngineContractError when
    the engine's answers do not match its requests, JournalError and OutputError from the journal.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        recipes: Mapping[str, Recipe],
        generation: GenerationOptions,
        batching: BatchingOptions,
        *,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = ShardMetrics()
        self._engine = engine
        self._journal = journal
        self._recipes = recipes
        self._generation = generation
        self._batching = batching
        self._listeners = listeners or Listeners()
        self._clock = clock
        self._limit = batching.batch_size
        self._memory_ran_out, self._largest_success = False, 1
        self._twins: dict[tuple[str, Fingerprint], list[ImageRef]] = {}
        self._rejected: dict[tuple[str, Fingerprint], Rejection] = {}
        self._trace_inputs = self._listeners.inputs is not None

    def run(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        """Outcomes as they come: one per photo of `refs`, in no promised order."""
        started, reported = self._clock(), 0.0
        for outcome in self._outcomes(refs):
            self.metrics.photos += 1
            self.metrics.rejected += isinstance(outcome, Rejection)
            self.metrics.reused += isinstance(outcome, Summary) and outcome.reused
            self.metrics.seconds = self._clock() - started
            if self.metrics.photos == len(refs) or self.metrics.seconds - reported >= _REPORT_SECONDS:
                reported = self.metrics.seconds
                self._report_progress(len(refs))
            yield outcome

    def _outcomes(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        waiting: deque[_Photo] = deque()
        for item in self._photos_ahead(refs):
            if isinstance(item, Rejection):
                self._warn(f"photo rejected ({item.reason}): {item.detail}")
                yield item
                continue
            key = self._key(item)
            answer = self._journal.find(*key)
            if answer is not None:
                yield _summary(item.ref, item.content_sha256, answer, reused=True)
            elif key in self._rejected:
                yield replace(self._rejected[key], ref=item.ref)
            elif key in self._twins:
                self._twins[key].append(item.ref)
            else:
                self._twins[key] = []
                waiting.append(item)
                yield from self._run_due_batches(waiting, exhausted=False)
        yield from self._run_due_batches(waiting, exhausted=True)

    def _photos_ahead(self, refs: Sequence[ImageRef]) -> Iterator[_Photo | Rejection]:
        photos = map_ahead(
            self._read, refs, workers=self._batching.decode_workers, window=self._batching.batch_size
        )
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
        fit = partial(self._engine.target_size, max_pixels=self._recipes[ref.group.mission].max_pixels)
        sha256 = None
        try:
            file = read_photo(ref.image.path)
            sha256 = file.sha256
            known = self._journal.knows(sha256, self._answer_fingerprint(ref))
            image = None if known else decode_photo(file, fit=fit)
        except PhotoError as error:
            return Rejection(ref, "read", error.reason, str(error), content_sha256=sha256, attempts=0)
        return _Photo(ref, sha256, image, self._clock() - started)

    def _run_due_batches(self, waiting: deque[_Photo], *, exhausted: bool) -> Iterator[Outcome]:
        while size := next_batch_size(
            [photo.ref.group_index for photo in waiting],
            limit=self._limit,
            mode=self._batching.mode,
            exhausted=exhausted,
        ):
            yield from self._run_batch([waiting.popleft() for _ in range(size)])

    def _run_batch(self, batch: list[_Photo]) -> Iterator[Outcome]:
        """Outcomes of the batch and of the same photos elsewhere, once they are safe in the journal."""
        results = self._ask_with_retry([self._request(photo) for photo in batch])
        self.metrics.inferred += len(batch)
        outcomes = [self._conclude(photo, *result) for photo, result in zip(batch, results, strict=True)]
        self._journal.commit()
        for photo, outcome in zip(batch, outcomes, strict=True):
            yield outcome
            if isinstance(outcome, Rejection):
                self._rejected[self._key(photo)] = outcome
            for twin in self._twins.pop(self._key(photo)):
                yield _same_for(twin, outcome)

    def _ask_with_retry(self, requests: list[Request]) -> list[tuple[Completion | EngineFailure, int]]:
        """Per request its last result and the number of attempts, unusable answers asked twice."""
        results = self._ask(requests, self._generation)
        self._lower_limit_if_memory_ran_out()
        retries: defaultdict[GenerationOptions, list[int]] = defaultdict(list)
        for place, result in enumerate(results):
            reason = None if isinstance(result, EngineFailure) else answer_defect(result)
            if reason is not None:
                retries[retry_options(self._generation, reason)].append(place)
        attempts = [1] * len(results)
        for options, places in retries.items():
            self.metrics.retried += len(places)
            again = self._ask([requests[place] for place in places], options)
            for place, result in zip(places, again, strict=True):
                attempts[place] = 2
                # An engine that fails on the second try must not cost the first answer's raw text.
                if isinstance(result, Completion):
                    results[place] = result
        return list(zip(results, attempts, strict=True))

    def _ask(self, requests: list[Request], options: GenerationOptions) -> list[Completion | EngineFailure]:
        started = self._clock()
        self.metrics.batches += 1
        self.metrics.batch_places += self._limit
        self._memory_ran_out, self._largest_success = False, 1
        results = generate_bisecting(requests, partial(self._generate, options=options))
        self._trace_inputs = False
        self.metrics.device_seconds += self._clock() - started
        for result in results:
            if isinstance(result, Completion):
                self.metrics.prompt_tokens += result.prompt_tokens
                self.metrics.generated_tokens += result.generated_tokens
        return results

    def _generate(self, requests: Sequence[Request], *, options: GenerationOptions) -> list[Completion]:
        if self._trace_inputs and self._listeners.inputs is not None:
            self._listeners.inputs(self._engine.trace_inputs(requests))
        try:
            completions = self._engine.generate(requests, options)
        except EngineOutOfMemoryError:
            self._memory_ran_out = True
            raise
        self._largest_success = max(self._largest_success, len(requests))
        return completions

    def _lower_limit_if_memory_ran_out(self) -> None:
        """Down to what had room in the batch that did not: one huge photo must not cost more than that.

        Not after a retry, which asks for longer answers than the batches to come.
        """
        if self._memory_ran_out and self._largest_success < self._limit:
            self._warn(
                f"{self._limit} photos at once ran out of memory; the batch size is {self._largest_success} "
                "from here on (set engine.batch_size to keep it)"
            )
            self._limit = self._largest_success

    def _conclude(self, photo: _Photo, result: Completion | EngineFailure, attempts: int) -> Outcome:
        """The outcome of an asked photo, written to the journal."""
        name = request_id(photo.ref)
        fingerprint = self._answer_fingerprint(photo.ref)
        if isinstance(result, EngineFailure):
            rejection = Rejection(
                photo.ref,
                "summarise",
                result.reason,
                f"{name}: {result.detail}",
                content_sha256=photo.content_sha256,
                attempts=attempts,
            )
        else:
            reason = answer_defect(result)
            if reason is None:
                answer = _answer(result, attempts)
                self._journal.append_answer(name, photo.content_sha256, fingerprint, answer)
                return _summary(photo.ref, photo.content_sha256, answer, reused=False)
            rejection = _unusable(photo, result, reason, attempts)
        self._journal.append_failure(
            name, photo.content_sha256, fingerprint, reason=rejection.reason, attempts=attempts
        )
        self._warn(f"photo rejected ({rejection.reason}): {rejection.detail}")
        return rejection

    def _request(self, photo: _Photo) -> Request:
        assert photo.image is not None
        return Request(request_id(photo.ref), photo.image, self._recipes[photo.ref.group.mission].prompt)

    def _key(self, photo: _Photo) -> tuple[str, Fingerprint]:
        return photo.content_sha256, self._answer_fingerprint(photo.ref)

    def _answer_fingerprint(self, ref: ImageRef) -> Fingerprint:
        return answer_fingerprint(self._recipes[ref.group.mission], ref, greedy=self._generation.greedy)

    def _report_progress(self, total: int) -> None:
        if self._listeners.progress is not None:
            metrics = self.metrics
            self._listeners.progress(
                Progress(metrics.photos, total, metrics.rejected, metrics.reused, metrics.seconds)
            )

    def _warn(self, sentence: str) -> None:
        if self._listeners.warning is not None:
            self._listeners.warning(sentence)


def _answer(completion: Completion, attempts: int) -> Answer:
    return Answer(
        raw_text=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        generated_tokens=completion.generated_tokens,
        attempts=attempts,
    )


def _summary(ref: ImageRef, content_sha256: str, answer: Answer, *, reused: bool) -> Summary:
    return Summary(
        ref=ref,
        content_sha256=content_sha256,
        raw_text=answer.raw_text,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        generated_tokens=answer.generated_tokens,
        attempts=answer.attempts,
        reused=reused,
    )


def _same_for(twin: ImageRef, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Summary):
        return replace(outcome, ref=twin, reused=True)
    return replace(outcome, ref=twin)


def _unusable(photo: _Photo, completion: Completion, reason: str, attempts: int) -> Rejection:
    return Rejection(
        photo.ref,
        "summarise",
        reason,
        f"{request_id(photo.ref)}: the answer is {reason} after {attempts} attempts "
        f"({completion.generated_tokens} tokens); its raw text stands in the rejected lines",
        raw_text=completion.text,
        content_sha256=photo.content_sha256,
        attempts=attempts,
    )

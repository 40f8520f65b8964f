"""Photos ahead of the device: read, decoded and prepared on threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from math import prod
from typing import Final

from stage_a_pipeline.engines.base import Engine, EngineFailure
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import PhotoFile, Pixels, decode_photo
from stage_a_pipeline.inference.asking import BatchingOptions, Questions, Watch, request_id
from stage_a_pipeline.inference.batching import order_by_size
from stage_a_pipeline.inference.bisection import NOT_THE_ENGINE, engine_failure
from stage_a_pipeline.inference.conclusions import crashed, unreadable
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.lookahead import Lookahead
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.tracing import PhotoSpan, PhotoSpans
from stage_a_pipeline.photo_source import PhotoSize, PhotoSource
from stage_a_pipeline.records import ImageRef, Rejection
from stage_a_pipeline.telemetry.spans import DECODE_PHOTO, READ_PHOTO

MOST_CRASHES: Final = 2
"""So often a process may die over a photo before the photo is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A photo's file that is not decoded yet, since a process has died over it so often."""

    file: PhotoFile
    crashes: int


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photo that was read; decoded only if no answer to it was known then, and nobody died over it.

    `pixels` are what the engine made of it ahead, `failure` is why it could not.
    """

    ref: ImageRef
    content_sha256: str
    pixels: Pixels | None = None
    failure: EngineFailure | None = None
    seconds: float = 0.0
    suspect: Suspect | None = None
    span: PhotoSpan = field(default_factory=PhotoSpan)

    @property
    def crashes(self) -> int:
        """How many processes died over it."""
        return 0 if self.suspect is None else self.suspect.crashes

    def without_pixels(self) -> Photo:
        """What is left to know of it while it is asked."""
        return replace(self, pixels=None, suspect=None)


class PhotosAhead:
    """Reads, decodes and prepares the photos of a shard. One that cannot be read is a Rejection."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        questions: Questions,
        batching: BatchingOptions,
        *,
        photos: PhotoSource,
        watch: Watch,
        metrics: ShardMetrics,
        clock: Callable[[], float],
        spans: PhotoSpans | None = None,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._questions = questions
        self._batching = batching
        self._photos = photos
        self._watch = watch
        self._metrics = metrics
        self._clock = clock
        self._spans = spans or PhotoSpans()
        self._decoding: set[str] = set()
        self._ahead: Lookahead[ImageRef, Photo | Rejection] | None = None

    @property
    def ready(self) -> int:
        """Photos that are read and wait to be taken."""
        return 0 if self._ahead is None else self._ahead.ready

    def of(self, refs: Iterable[ImageRef]) -> Generator[Photo | Rejection, None, None]:
        """The photos, in order of their size within windows. To be used up before it is called again.

        `refs` are taken as they are needed, in the caller's thread: three windows ahead of the device.
        """
        with closing(self._in_windows(refs)) as ordered:
            ahead = self._ahead = Lookahead(
                self._read,
                ordered,
                workers=self._batching.decode_workers,
                window=self._batching.window,
                while_waiting=self._wait,
            )
            with closing(iter(ahead)) as photos:
                yield from self._timed(photos)

    def _timed(self, photos: Iterator[Photo | Rejection]) -> Iterator[Photo | Rejection]:
        while True:
            asked = self._clock()
            item = next(photos, None)
            self._metrics.waiting_seconds += self._clock() - asked
            if item is None:
                return
            if isinstance(item, Photo):
                self._metrics.decode_seconds += item.seconds
            yield item
            # The caller's batch alone shall keep the photo alive.
            del item

    def settle(self) -> None:
        """Wait until nothing is being decoded; nothing new begins before the next photo is taken."""
        if self._ahead is not None:
            self._ahead.settle()

    def decoded(self, photo: Photo) -> Photo:
        """A suspect, decoded after all, in the caller's thread. Raises PhotoError."""
        assert photo.suspect is not None
        return self._decode(photo, photo.suspect.file)

    def _read(self, ref: ImageRef) -> Photo | Rejection:
        """Runs on the decoding threads."""
        started, span = self._clock(), self._spans.begin(ref)
        sha256 = None
        try:
            with span.whole.child(READ_PHOTO):
                file = self._photos.read(ref.image.path)
            sha256 = file.sha256
            fingerprint = self._questions.fingerprint(ref)
            photo = Photo(ref, sha256, span=span)
            if not self._journal.knows(sha256, fingerprint):
                crashes = self._journal.crashes(sha256, fingerprint)
                if crashes >= MOST_CRASHES:
                    return _rejected(span, crashed(ref, sha256, crashes))
                if crashes:
                    return replace(photo, suspect=Suspect(file, crashes))
                photo = self._decode(photo, file)
        except PhotoError as error:
            return _rejected(span, unreadable(ref, error, sha256))
        return replace(photo, seconds=self._clock() - started)

    def _decode(self, photo: Photo, file: PhotoFile) -> Photo:
        recipe = self._questions.recipe(photo.ref)
        fit = partial(self._engine.target_size, max_pixels=recipe.max_pixels)
        with self._watched(photo), photo.span.whole.child(DECODE_PHOTO):
            image = decode_photo(file, fit=fit, decode=recipe.decode)
            try:
                return replace(photo, pixels=self._engine.prepare(image))
            except NOT_THE_ENGINE:
                raise
            # As while it is asked: whatever a model's library raises for a photo must not end the run.
            except Exception as error:  # noqa: BLE001
                return replace(photo, failure=engine_failure(error))

    @contextmanager
    def _watched(self, photo: Photo) -> Iterator[None]:
        self._watch.begin(self._questions.ordeal(photo.ref, photo.content_sha256, photo.crashes))
        name = request_id(photo.ref)
        self._decoding.add(name)
        try:
            yield
        finally:
            self._decoding.remove(name)
            self._watch.end(name)

    def _in_windows(self, refs: Iterable[ImageRef]) -> Generator[ImageRef, None, None]:
        """Those whose photos make about as many tokens together; none is moved by more than the window."""
        window = self._batching.sort_window
        if window < 2 or self._batching.mode == "per_group":
            yield from refs
            return
        rest = iter(refs)
        windows = iter(lambda: list(islice(rest, window)), [])
        ordered = Lookahead(self._by_size, windows, workers=2, window=2, while_waiting=self._wait)
        with closing(iter(ordered)) as in_order:
            yield from chain.from_iterable(in_order)

    def _by_size(self, refs: Sequence[ImageRef]) -> list[ImageRef]:
        sizes = self._photos.sizes([ref.image.path for ref in refs])
        pixels = [self._pixels(ref, size) for ref, size in zip(refs, sizes, strict=True)]
        return [refs[place] for place in order_by_size(pixels)]

    def _pixels(self, ref: ImageRef, size: PhotoSize) -> int | None:
        """Of the photo as the model sees it: its tokens are in proportion, whichever way it is turned."""
        if size is None:
            return None
        try:
            return prod(self._engine.target_size(*size, max_pixels=self._questions.recipe(ref).max_pixels))
        except PhotoError:
            return None

    def _wait(self) -> None:
        """A slow disk is no sign that the shard hangs; a photo that is not decoded in time is one."""
        if not self._decoding:
            self._watch.alive()


def _rejected(span: PhotoSpan, rejection: Rejection) -> Rejection:
    span.ended(rejection)
    return rejection

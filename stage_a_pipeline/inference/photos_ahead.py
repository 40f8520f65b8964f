"""Photos ahead of the device: read and decoded on threads, in order, at most one batch of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from stage_a_pipeline.engines.base import Engine
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import PhotoFile, decode_photo, read_photo
from stage_a_pipeline.inference.asking import BatchingOptions, Questions, Watch, request_id
from stage_a_pipeline.inference.conclusions import crashed, unreadable
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.lookahead import Lookahead
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.records import ImageRef, Rejection

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_CRASHES: Final = 2
"""So often a process may die over a photo before the photo is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A photo's file that is not decoded yet, since a process has died over it so often."""

    file: PhotoFile
    crashes: int


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photo that was read; decoded only if no answer to it was known then, and nobody died over it."""

    ref: ImageRef
    content_sha256: str
    image: Image | None = None
    seconds: float = 0.0
    suspect: Suspect | None = None

    @property
    def crashes(self) -> int:
        """How many processes died over it."""
        return 0 if self.suspect is None else self.suspect.crashes

    def without_pixels(self) -> Photo:
        """What is left to know of it while it is asked."""
        return replace(self, image=None, suspect=None)


class PhotosAhead:
    """Reads and decodes the photos of a shard. What cannot be read is a Rejection in the photo's place."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        questions: Questions,
        batching: BatchingOptions,
        *,
        watch: Watch,
        metrics: ShardMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._questions = questions
        self._batching = batching
        self._watch = watch
        self._metrics = metrics
        self._clock = clock
        self._decoding: set[str] = set()
        self._ahead: Lookahead[ImageRef, Photo | Rejection]

    def of(self, refs: Sequence[ImageRef]) -> Iterator[Photo | Rejection]:
        """The photos in order. To be used up, or closed, before it is called again."""
        self._ahead = Lookahead(
            self._read,
            refs,
            workers=self._batching.decode_workers,
            window=self._batching.batch_size,
            while_waiting=self._wait,
        )
        photos = iter(self._ahead)
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
        self._ahead.settle()

    def decoded(self, photo: Photo) -> Photo:
        """A suspect, decoded after all, in the caller's thread. Raises PhotoError."""
        assert photo.suspect is not None
        return replace(photo, image=self._decode(photo.ref, photo.suspect.file, photo.suspect.crashes))

    def _read(self, ref: ImageRef) -> Photo | Rejection:
        """Runs on the decoding threads."""
        started = self._clock()
        sha256 = None
        try:
            file = read_photo(ref.image.path)
            sha256 = file.sha256
            fingerprint = self._questions.fingerprint(ref)
            if self._journal.knows(sha256, fingerprint):
                return Photo(ref, sha256, seconds=self._clock() - started)
            if crashes := self._journal.crashes(sha256, fingerprint):
                if crashes >= MOST_CRASHES:
                    return crashed(ref, sha256, crashes)
                return Photo(ref, sha256, suspect=Suspect(file, crashes))
            image = self._decode(ref, file)
        except PhotoError as error:
            return unreadable(ref, error, sha256)
        return Photo(ref, sha256, image, self._clock() - started)

    def _decode(self, ref: ImageRef, file: PhotoFile, crashes: int = 0) -> Image:
        recipe = self._questions.recipe(ref)
        fit = partial(self._engine.target_size, max_pixels=recipe.max_pixels)
        with self._watched(ref, file.sha256, crashes):
            return decode_photo(file, fit=fit, decode=recipe.decode)

    @contextmanager
    def _watched(self, ref: ImageRef, sha256: str, crashes: int) -> Iterator[None]:
        self._watch.begin(self._questions.ordeal(ref, sha256, crashes))
        name = request_id(ref)
        self._decoding.add(name)
        try:
            yield
        finally:
            self._decoding.remove(name)
            self._watch.end(name)

    def _wait(self) -> None:
        """A slow disk is no sign that the shard hangs; a photo that is not decoded in time is one."""
        if not self._decoding:
            self._watch.alive()

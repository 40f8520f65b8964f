"""Photos whose bytes another process is asking just now: put off until it has answered, or given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import PhotoKey
from stage_a_pipeline.inference.claims import PhotoClaims
from stage_a_pipeline.inference.conclusions import summary
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.records import ImageRef, Outcome

_POLL_SECONDS: Final = 0.2


class AskedElsewhere:
    """What this process may ask, and the photos that it leaves to others for now.

    Without `claims`, everything is this process's to ask. `alive` is called while it waits.
    """

    def __init__(self, journal: Journal, claims: PhotoClaims | None, *, alive: Callable[[], None]) -> None:
        self._journal = journal
        self._claims = claims
        self._alive = alive
        self._deferred: list[tuple[ImageRef, PhotoKey]] = []

    def __bool__(self) -> bool:
        return bool(self._deferred)

    def claim(self, key: PhotoKey) -> bool:
        """Whether the photo is ours to ask. The journal knows then what others answered before."""
        if self._claims is None:
            return True
        if not self._claims.take(answer_key(*key)):
            return False
        self._journal.look_around()
        return True

    def release(self, key: PhotoKey) -> None:
        """Leave the photo to others."""
        if self._claims is not None:
            self._claims.release(answer_key(*key))

    def defer(self, ref: ImageRef, key: PhotoKey) -> None:
        """Wait for the other process's answer to this photo."""
        self._deferred.append((ref, key))

    def answered(self) -> Iterator[Outcome]:
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

    def given_up(self) -> list[ImageRef]:
        """Deferred photos that nobody asks any more, and nobody has answered; none at the first answer."""
        while True:
            self._alive()
            self._journal.look_around()
            if any(self._journal.knows(*key) for _, key in self._deferred):
                return []
            free = {key for _, key in self._deferred if self._is_free(key)}
            if free:
                refs = [ref for ref, key in self._deferred if key in free]
                self._deferred = [waiting for waiting in self._deferred if waiting[1] not in free]
                return refs
            time.sleep(_POLL_SECONDS)

    def _is_free(self, key: PhotoKey) -> bool:
        free = self.claim(key)
        self.release(key)
        return free

"""The journal of a worker on another host: its own answers, and which ones the run knows already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from stage_a_pipeline.inference.answer_index import KEY_BYTES, AnswerIndex, Place, answer_key
from stage_a_pipeline.inference.journal import Answer, Fingerprint, Journal

_NOWHERE: Final = Place(0, 0)
_KNOWN: Final = Answer("", "stop", prompt_tokens=0, generated_tokens=0, attempts=0)
"""Stands for an answer that only the run itself can read."""


class HostJournal(Journal):
    """A journal in a folder of the host, for as long as its actor lives.

    Of answers that stand in the run's own journal it has the keys: `find` gives an empty answer for them,
    which the run replaces by its own. What the workers of this host answered is found as it is. Of photos
    over which workers died in earlier runs, on whichever host, it has the count: `earlier_crashes`.
    """

    def __init__(
        self,
        folder: Path,
        shard: str,
        missions: Sequence[str],
        known: bytes,
        earlier_crashes: Mapping[bytes, int],
    ) -> None:
        super().__init__(folder, shard, missions)
        self._known = AnswerIndex((key, _NOWHERE) for key in _keys(known))
        self._earlier_crashes = earlier_crashes

    def learn(self, news: bytes) -> None:
        """More keys of answers that the run knows. To be called from the device's thread alone."""
        for key in _keys(news):
            self._known.add(key, _NOWHERE)

    def find(self, content_sha256: str, fingerprint: Fingerprint) -> Answer | None:
        """See Journal."""
        answer = super().find(content_sha256, fingerprint)
        if answer is None and answer_key(content_sha256, fingerprint) in self._known:
            return _KNOWN
        return answer

    def knows(self, content_sha256: str, fingerprint: Fingerprint) -> bool:
        """See Journal."""
        return (
            super().knows(content_sha256, fingerprint)
            or answer_key(content_sha256, fingerprint) in self._known
        )

    def crashes(self, content_sha256: str, fingerprint: Fingerprint) -> int:
        """See Journal."""
        earlier = self._earlier_crashes.get(answer_key(content_sha256, fingerprint), 0)
        return max(earlier, super().crashes(content_sha256, fingerprint))


def _keys(joined: bytes) -> Iterator[bytes]:
    return (joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES))

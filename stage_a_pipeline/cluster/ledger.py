"""What the run keeps of its shards: the journal, and a file of outcomes for each, written once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from stage_a_pipeline.cluster.shards import Shard
from stage_a_pipeline.engines.base import FinishReason
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import PhotoKey, Questions, request_id
from stage_a_pipeline.inference.conclusions import crashed, summary, unreadable
from stage_a_pipeline.inference.journal import Answer, Journal
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.photos_ahead import MOST_CRASHES
from stage_a_pipeline.inference.task_files import OutcomeFile, read_outcomes
from stage_a_pipeline.photo_source import ON_DISK, PhotoSource
from stage_a_pipeline.records import ImageRef, Outcome, Rejection, Summary
from stage_a_pipeline.storage import ensure_folder
from stage_a_pipeline.table_files import StoredTable, joined


class Ledger:
    """Outcomes of a run, shard by shard, and their counts.

    The journal has the last word on every answer: where it knows one, what a host says instead is dropped.
    So a photo that two hosts were asked has one answer. Raises OutputError and JournalError.
    """

    def __init__(
        self, journal: Journal, questions: Questions, folder: Path, photos: PhotoSource = ON_DISK
    ) -> None:
        self.counts = ShardMetrics()
        self.photos = photos
        self.news = bytearray()
        """Keys of all answers since the beginning, in their order."""
        self._journal = journal
        self._questions = questions
        self._folder = folder
        self._written: dict[tuple[int, int], Path] = {}
        self._failed: set[PhotoKey] = set()

    def commit(self, shard: Shard, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of a shard: first to the journal, then to a file that is whole or absent."""
        assert [_place(outcome.ref) for outcome in sorted(outcomes, key=lambda one: _place(one.ref))] == [
            _place(ref) for ref in shard.refs
        ], f"shard {shard.id}: outcomes of other photos, or not one each"
        kept = [self._keep(outcome) for outcome in outcomes]
        self._journal.commit()
        self.write(_place(shard.refs[0]), kept)

    def give_up(self, ref: ImageRef) -> Rejection:
        """Reject a photo over which actors were lost, and remember that; its outcome."""
        try:
            sha256 = self.photos.read(ref.image.path).sha256
        except PhotoError as error:
            outcome = unreadable(ref, error, None)
        else:
            outcome = crashed(ref, sha256, MOST_CRASHES)
        self.commit(Shard((ref,)), [outcome])
        return outcome

    def write(self, place: tuple[int, int], outcomes: Iterable[Outcome]) -> None:
        """Write a file of outcomes that stands at a place in the order of all."""
        folder = ensure_folder(self._folder / f"{place[0]}.{place[1]}")
        with OutcomeFile(folder) as file:
            for outcome in outcomes:
                self._count(outcome)
                file.add(outcome)
        self._written[place] = folder

    def outcomes(self) -> StoredTable:
        """All outcomes, in the order of their shards."""
        return joined([read_outcomes(folder) for _, folder in sorted(self._written.items())])

    def _keep(self, outcome: Outcome) -> Outcome:
        """The outcome as it stands from now on, appended to the journal where that does not know it."""
        ref, sha256 = outcome.ref, outcome.content_sha256
        if sha256 is None:
            return outcome
        key = sha256, self._questions.fingerprint(ref)
        if isinstance(outcome, Rejection):
            self._keep_rejection(outcome, key)
            return outcome
        if (known := self._journal.find(*key)) is not None:
            return summary(ref, sha256, known, reused=True)
        self._journal.append_answer(ref.group.mission, request_id(ref), *key, _answer(outcome))
        self.counts.inferred += 1
        self.news += answer_key(*key)
        return outcome

    def _keep_rejection(self, outcome: Rejection, key: PhotoKey) -> None:
        if outcome.stage != "summarise" or key in self._failed:
            return
        self._failed.add(key)
        if outcome.reason == "crashed":
            # A host tells again what it was told of earlier runs.
            if outcome.attempts > self._journal.crashes(*key):
                ordeal = self._questions.ordeal(outcome.ref, key[0], outcome.attempts)
                self._journal.append_crash(ordeal)
            return
        self.counts.inferred += 1
        self._journal.append_failure(
            outcome.ref.group.mission,
            request_id(outcome.ref),
            *key,
            reason=outcome.reason,
            attempts=outcome.attempts,
        )

    def _count(self, outcome: Outcome) -> None:
        self.counts.photos += 1
        if isinstance(outcome, Rejection):
            self.counts.count_rejection(outcome.stage, outcome.reason)
        self.counts.reused += isinstance(outcome, Summary) and outcome.reused


def _answer(outcome: Summary) -> Answer:
    return Answer(
        raw_text=outcome.raw_text,
        finish_reason=cast("FinishReason", outcome.finish_reason),
        prompt_tokens=outcome.prompt_tokens,
        generated_tokens=outcome.generated_tokens,
        attempts=outcome.attempts,
    )


def _place(ref: ImageRef) -> tuple[int, int]:
    return ref.group_index, ref.image_index

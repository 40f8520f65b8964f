"""Append-only outcomes on disk: what a killed run had finished, the next run does not repeat.

One file per shard, one JSON object per line, each with a CRC of its own bytes. An answer is found
again by the photo's content hash and the run's fingerprint; failures are written for people to
read and are never reused as answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stage_a_pipeline.engines.base import FinishReason
from stage_a_pipeline.errors import JournalError
from stage_a_pipeline.inference.answer_index import AnswerIndex, Place, answer_key
from stage_a_pipeline.inference.journal_file import JournalFile
from stage_a_pipeline.inference.journal_lines import CRASHED, REJECTED, SUMMARISED, intact_lines
from stage_a_pipeline.inference.journal_reader import JournalReader

_WORTH_COMPACTING: Final = 1000

Fingerprint = str


@dataclass(frozen=True, slots=True)
class Answer:
    """One usable answer, as the engine gave it."""

    raw_text: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Ordeal:
    """A photo that is being decoded or asked: who is to blame if the process dies meanwhile.

    `crashes` is how often that has happened.
    """

    name: str
    mission: str
    content_sha256: str
    fingerprint: Fingerprint
    crashes: int = 0


def run_fingerprint(*parts: str) -> Fingerprint:
    """SHA-256 over everything but the photo that shapes an answer: engine, prompt, image settings."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Journal:
    """The answers below an output folder's `journal`; a shard's new ones are appended.

    Every mission has a folder, every shard a file in those of its own missions. Opening reads all of
    them, those of other missions too: an answer belongs to a photo's content and a fingerprint,
    whichever mission asked. It keeps 24 bytes per answer, not the text. Where several shards answered
    the same photo, this shard's answer is found, so that a run that goes on says what it said before.

    A torn last line of an own file is cut off, and what no longer counts is removed from it once that is
    the greater part (`notices` tells both). Raises JournalError with file and line for damage anywhere
    else in the own missions' files and for a file that cannot be read, OutputError when not writable. Of
    a mission that is not this shard's, damage costs the answers behind it and is told in `notices`.
    """

    def __init__(self, folder: Path, shard: str, missions: Sequence[str]) -> None:
        self.notices: list[str] = []
        self._own: dict[str, JournalFile] = {}
        self._folder = folder
        self._reader = JournalReader()
        try:
            for mission in missions:
                self._own[mission] = JournalFile(folder / mission / f"{shard}.jsonl", self.notices)
            self._index = AnswerIndex(self._replay(folder))
            if self._compact():
                self._index = AnswerIndex(self._replay(folder))
        except BaseException:
            self._close_files()
            raise

    def find(self, content_sha256: str, fingerprint: Fingerprint) -> Answer | None:
        """The answer given before to these bytes under this fingerprint.

        Raises JournalError where somebody has changed the file since it was read.
        """
        place = self._index.find(answer_key(content_sha256, fingerprint))
        if place is None:
            return None
        line = self._reader.line_at(place)
        if (line["sha256"], line["fingerprint"]) != (content_sha256, fingerprint):
            raise JournalError(
                f"journal {self._reader.path_of(place)} was changed while it was read; run again, and leave "
                "the journals alone meanwhile"
            )
        return Answer(
            raw_text=line["text"],
            finish_reason=line["finish_reason"],
            prompt_tokens=line["prompt_tokens"],
            generated_tokens=line["generated_tokens"],
            attempts=line["attempts"],
        )

    def knows(self, content_sha256: str, fingerprint: Fingerprint) -> bool:
        """Whether `find` would give an answer; cheap, and safe to call from other threads."""
        return answer_key(content_sha256, fingerprint) in self._index

    def crashes(self, content_sha256: str, fingerprint: Fingerprint) -> int:
        """How often a worker died over this photo, as `record_crash` wrote it."""
        return self._reader.crashes(answer_key(content_sha256, fingerprint))

    def crash_counts(self) -> dict[bytes, int]:
        """`crashes` of all photos over which a worker died, by their keys, see `answer_key`."""
        return self._reader.crash_counts()

    def keys(self) -> bytes:
        """The keys of all answers, see `answer_key`: those that need not be asked anywhere."""
        return self._index.keys()

    def __len__(self) -> int:
        return len(self._index)

    def look_around(self) -> None:
        """Learn what other shards have answered since this journal was opened, or since the last look.

        Damage there costs the answers behind it, and is told in `notices`.
        """
        own = {file.path for file in self._own.values()}
        for path in self._folder.glob("*/*.jsonl"):
            if path in own:
                continue
            try:
                for key, place in self._reader.answers_behind(path):
                    self._index.add(key, place)
            except JournalError as error:
                self._reader.leave_alone(path)
                self.notices.append(f"answers of another shard are not reused: {error}")

    def append_answer(
        self, mission: str, photo: str, content_sha256: str, fingerprint: Fingerprint, answer: Answer
    ) -> None:
        """Write one answer; it is safe once `commit` returns. `photo` is for people who read along."""
        own = self._own[mission]
        offset = own.append(
            {
                "sha256": content_sha256,
                "fingerprint": fingerprint,
                "status": SUMMARISED,
                "photo": photo,
                "text": answer.raw_text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "generated_tokens": answer.generated_tokens,
                "attempts": answer.attempts,
            }
        )
        self._index.add(answer_key(content_sha256, fingerprint), Place(own.number, offset))

    def append_failure(
        self,
        mission: str,
        photo: str,
        content_sha256: str,
        fingerprint: Fingerprint,
        *,
        reason: str,
        attempts: int,
    ) -> None:
        """Write that a photo has no answer, and why."""
        self._own[mission].append(
            {
                "sha256": content_sha256,
                "fingerprint": fingerprint,
                "status": REJECTED,
                "photo": photo,
                "reason": reason,
                "attempts": attempts,
            }
        )

    def append_crash(self, ordeal: Ordeal) -> None:
        """Write over which photo and how often workers died."""
        self._own[ordeal.mission].append(_crash_line(ordeal))

    def commit(self) -> None:
        """Make everything appended so far survive a crash of the machine."""
        for own in self._own.values():
            own.commit()

    def close(self) -> None:
        """Commit, and close all files."""
        try:
            self.commit()
        finally:
            self._close_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _replay(self, folder: Path) -> Iterator[tuple[bytes, Place]]:
        """Keys and places of all answers; the own files come last, since later places replace earlier."""
        self._reader.close()
        own = {file.path: file for file in self._own.values()}
        for path in sorted(folder.glob("*/*.jsonl")):
            if path not in own:
                yield from self._answers_elsewhere(path)
        for file in own.values():
            file.number = self._reader.next_number
            yield from self._reader.answers_in(file.path)

    def _answers_elsewhere(self, path: Path) -> Iterator[tuple[bytes, Place]]:
        try:
            yield from self._reader.answers_in(path)
        except JournalError as error:
            if path.parent.name in self._own:
                raise
            self._reader.leave_alone(path)
            self.notices.append(f"answers of another mission are not reused: {error}")

    def _compact(self) -> bool:
        """Whether any own file was shortened."""
        shortened = False
        for own in self._own.values():
            lines, answers = self._reader.lines_in(own.path), self._index.count_in(own.number)
            if lines - answers >= max(_WORTH_COMPACTING, answers) and (removed := own.compact(lines)):
                self.notices.append(f"removed {removed} bytes of lines that no longer count from {own.path}")
                shortened = True
        return shortened

    def _close_files(self) -> None:
        for own in self._own.values():
            # What was committed is safe. After a failed commit, closing fails once more for the same
            # cause, and would hide the error that names the remedy.
            with suppress(OSError):
                own.stream.close()
        self._reader.close()


def record_crash(folder: Path, shard: str, ordeal: Ordeal) -> None:
    """Write to the file of a shard, whose worker is dead, over which photo and how often workers died.

    Raises OutputError.
    """
    own = JournalFile(folder / ordeal.mission / f"{shard}.jsonl", [])
    try:
        own.append(_crash_line(ordeal))
        own.commit()
    finally:
        own.stream.close()


def _crash_line(ordeal: Ordeal) -> dict[str, object]:
    return {
        "sha256": ordeal.content_sha256,
        "fingerprint": ordeal.fingerprint,
        "status": CRASHED,
        "photo": ordeal.name,
        "crashes": ordeal.crashes,
    }


def count_answers(folder: Path, fingerprint: Fingerprint | None = None) -> int:
    """How many different photos the journals of a mission's folder answer: those a run of that fingerprint
    would reuse, or without one, those of every fingerprint. Raises JournalError."""
    wanted = None if fingerprint is None else fingerprint.encode()
    return len(
        AnswerIndex(
            (line.key, Place(0, 0))
            for path in sorted(folder.glob("*.jsonl"))
            for line in intact_lines(path)
            # A sampled answer's fingerprint is that of its run, followed by its photo's place.
            if line.status == SUMMARISED.encode() and wanted in (None, line.fingerprint.partition(b":")[0])
        )
    )

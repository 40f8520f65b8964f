"""Append-only outcomes on disk: what a killed run had finished, the next run does not repeat.

One file per shard, one JSON object per line, each with a CRC of its own bytes. An answer is found
again by the photo's content hash and the run's fingerprint; failures are written for people to
read and are never reused as answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from stage_a_pipeline.engines.base import FinishReason
from stage_a_pipeline.errors import JournalError, OutputError

_CRC_MARK: Final = b',"crc":"'
_CRC_TAIL: Final = len(b'00000000"}\n')
_KEY_BYTES: Final = 16

Fingerprint = str


@dataclass(frozen=True, slots=True)
class Answer:
    """One usable answer, as the engine gave it."""

    raw_text: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    attempts: int


def run_fingerprint(*parts: str) -> Fingerprint:
    """SHA-256 over everything but the photo that shapes an answer: engine, prompt, image settings."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Place:
    file: int
    offset: int


class Journal:
    """The answers of one output folder and mission; this shard's new ones are appended.

    Opening reads every `*.jsonl` of the folder, keeping 16 bytes and a file position per answer, not
    the text. Where two shards answered the same photo, this shard's answer is found, so that a run that
    goes on says what it said before. A torn last line of this shard's file is cut off; `torn_bytes`
    tells how much was lost. Raises JournalError with file and line for damage anywhere else and for a
    file that cannot be read, OutputError when not writable.
    """

    def __init__(self, folder: Path, shard: str) -> None:
        self.path = folder / f"{shard}.jsonl"
        self.torn_bytes = 0
        self._index: dict[bytes, _Place] = {}
        self._files: list[BinaryIO] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._out = self.path.open("ab")
        except OSError as error:
            raise OutputError(
                f"journal {self.path} cannot be written: {error.strerror}; check the output folder"
            ) from error
        try:
            self._replay(folder)
        except BaseException:
            self._close_files()
            raise

    def find(self, content_sha256: str, fingerprint: Fingerprint) -> Answer | None:
        """The answer given before to these bytes under this fingerprint."""
        place = self._index.get(_key(content_sha256, fingerprint))
        if place is None:
            return None
        line = self._read_at(place)
        return Answer(
            raw_text=line["text"],
            finish_reason=line["finish_reason"],
            prompt_tokens=line["prompt_tokens"],
            generated_tokens=line["generated_tokens"],
            attempts=line["attempts"],
        )

    def knows(self, content_sha256: str, fingerprint: Fingerprint) -> bool:
        """Whether `find` would give an answer; cheap, and safe to call from other threads."""
        return _key(content_sha256, fingerprint) in self._index

    def __len__(self) -> int:
        return len(self._index)

    def append_answer(
        self, photo: str, content_sha256: str, fingerprint: Fingerprint, answer: Answer
    ) -> None:
        """Write one answer; it is safe once `commit` returns. `photo` is for people who read along."""
        offset = self._write(
            {
                "photo": photo,
                "sha256": content_sha256,
                "fingerprint": fingerprint,
                "status": "summarised",
                "text": answer.raw_text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "generated_tokens": answer.generated_tokens,
                "attempts": answer.attempts,
            }
        )
        self._index[_key(content_sha256, fingerprint)] = _Place(self._own_file, offset)

    def append_failure(
        self, photo: str, content_sha256: str, fingerprint: Fingerprint, *, reason: str, attempts: int
    ) -> None:
        """Write that a photo has no answer, and why."""
        self._write(
            {
                "photo": photo,
                "sha256": content_sha256,
                "fingerprint": fingerprint,
                "status": "rejected",
                "reason": reason,
                "attempts": attempts,
            }
        )

    def commit(self) -> None:
        """Make everything appended so far survive a crash of the machine."""
        try:
            # A line whose write failed still stands in the buffer.
            self._out.flush()
            os.fsync(self._out.fileno())
        except OSError as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Commit, and close all files."""
        try:
            self.commit()
        finally:
            self._close_files()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _replay(self, folder: Path) -> None:
        self._cut_torn_line()
        # Later places replace earlier ones: the own file comes last.
        others = sorted(path for path in folder.glob("*.jsonl") if path != self.path)
        for path in (*others, self.path):
            self._own_file = len(self._files)
            with _reading(path):
                self._files.append(path.open("rb"))
            for offset, line in _intact_lines(path):
                if line["status"] == "summarised":
                    key = _key(line["sha256"], line["fingerprint"])
                    self._index[key] = _Place(self._own_file, offset)

    def _close_files(self) -> None:
        for file in (self._out, *self._files):
            # What was committed is safe. After a failed commit, closing fails once more for the same
            # cause, and would hide the error that names the remedy.
            with suppress(OSError):
                file.close()

    def _cut_torn_line(self) -> None:
        size = self.path.stat().st_size
        kept = _end_of_last_line(self.path, size)
        if kept < size:
            self.torn_bytes = size - kept
            os.truncate(self.path, kept)
            self._out.seek(0, os.SEEK_END)

    def _write(self, fields: dict[str, object]) -> int:
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        head = body[:-1]
        offset = self._out.tell()
        try:
            self._out.write(head + _CRC_MARK + f'{zlib.crc32(head):08x}"}}\n'.encode())
            # At once to the system, so that a killed process loses no line that it has finished.
            self._out.flush()
        except OSError as error:
            raise self._not_written(error) from error
        return offset

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"journal {self.path} cannot be written: {error.strerror}; free space or check the folder, "
            "then run again: finished photos are kept"
        )

    def _read_at(self, place: _Place) -> dict[str, Any]:
        file = self._files[place.file]
        file.seek(place.offset)
        return _parse(file.readline(), Path(file.name), None)


def count_answers(folder: Path, fingerprint: Fingerprint | None = None) -> int:
    """How many different photos the journals of a folder answer: those a run of that fingerprint would
    reuse, or without one, those of every fingerprint. Raises JournalError."""
    keys = {
        _key(line["sha256"], line["fingerprint"])
        for path in sorted(folder.glob("*.jsonl"))
        for _, line in _intact_lines(path)
        if line["status"] == "summarised" and fingerprint in (None, _of_run(line["fingerprint"]))
    }
    return len(keys)


def _of_run(fingerprint: Fingerprint) -> Fingerprint:
    """The run's own fingerprint: a sampled answer's is followed by its photo's place."""
    return fingerprint.partition(":")[0]


def _intact_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offsets and contents of all complete lines; a torn last line of another shard is passed over."""
    offset = 0
    with _reading(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield offset, _parse(line, path, number)
            offset += len(line)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns a failed read of `path` into a JournalError."""
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"journal {path} cannot be read: {error.strerror or error}; make it readable for this user, "
            "or move it away to have its photos summarised again"
        ) from error


def _parse(line: bytes, path: Path, number: int | None) -> dict[str, Any]:
    head, mark, tail = line.rpartition(_CRC_MARK)
    intact = mark and len(tail) == _CRC_TAIL and tail[:8] == f"{zlib.crc32(head):08x}".encode()
    if not intact:
        where = f"line {number}" if number is not None else "a line"
        raise JournalError(
            f"journal {path}, {where} is damaged; restore the file, or remove it "
            "to have its photos summarised again"
        )
    fields: dict[str, Any] = json.loads((head + b"}").decode("utf-8", "surrogatepass"))
    return fields


def _end_of_last_line(path: Path, size: int, chunk: int = 1 << 16) -> int:
    """Offset just behind the last newline; 0 without any."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - chunk)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _key(content_sha256: object, fingerprint: object) -> bytes:
    return hashlib.blake2b(f"{content_sha256}:{fingerprint}".encode(), digest_size=_KEY_BYTES).digest()

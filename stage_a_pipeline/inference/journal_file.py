"""A shard's own journal file of one mission, to append to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.inference.answer_index import AnswerIndex, Place
from stage_a_pipeline.inference.journal_lines import encode_line, end_of_last_line, intact_lines, reading
from stage_a_pipeline.storage import atomic_write


class JournalFile:
    """Appends lines, and keeps the file whole. Raises OutputError where it cannot be written."""

    def __init__(self, path: Path, notices: list[str]) -> None:
        self.path = path
        self.number = -1
        self._committed = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = path.open("ab")
        except OSError as error:
            raise OutputError(
                f"journal {path} cannot be written: {error.strerror}; check the output folder"
            ) from error
        try:
            if torn := self._cut_torn_line():
                notices.append(f"cut a torn last line of {torn} bytes off {path}")
        except BaseException:
            self.stream.close()
            raise

    def append(self, fields: Mapping[str, object]) -> int:
        """Write one line, at once to the system: a killed process loses none that it has finished."""
        line = encode_line(fields)
        offset = self.stream.tell()
        self._committed = False
        with self._writing():
            self.stream.write(line)
            self.stream.flush()
        return offset

    def commit(self) -> None:
        """Make what was appended survive a crash of the machine."""
        if self._committed:
            return
        with self._writing():
            # A line whose write failed still stands in the buffer.
            self.stream.flush()
            os.fsync(self.stream.fileno())
        self._committed = True

    def _cut_torn_line(self) -> int:
        size = self.path.stat().st_size
        kept = end_of_last_line(self.path, size)
        if kept < size:
            os.truncate(self.path, kept)
            self.stream.seek(0, os.SEEK_END)
        return size - kept

    def compact(self, lines: int) -> int:
        """Of so many lines keep the last per photo and fingerprint alone; how many bytes others had.

        How often workers died over a photo is kept beside what became of it. Whoever reads the former
        file meanwhile goes on reading it: it is replaced, not changed.
        """
        last = AnswerIndex((line.compact_key, Place(0, line.offset)) for line in intact_lines(self.path))
        if len(last) == lines:
            return 0
        with reading(self.path), self.path.open("rb") as old, atomic_write(self.path, "wb") as new:
            kept = 0
            for place in last.places():
                old.seek(place.offset)
                kept += new.write(old.readline())
            before = old.seek(0, os.SEEK_END)
        self.stream.close()
        self.stream = self.path.open("ab")
        return before - kept

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"journal {self.path} cannot be written: {error.strerror}; free space or check the folder, "
                "then run again: finished photos are kept"
            ) from error

"""The journals of all shards as they are read: where answers stand, and over which photos workers died."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stage_a_pipeline.inference.answer_index import Place
from stage_a_pipeline.inference.journal_lines import CRASHED, SUMMARISED, intact_lines, read_line, reading


@dataclass(slots=True)
class _Followed:
    """A file: its number, which one it is to the system, how far it was read, and whether that has ended."""

    number: int = -1
    inode: int = -1
    lines: int = 0
    end: int = 0
    damaged: bool = False


class JournalReader:
    """Files that stay open under the numbers by which places name them.

    Reading raises JournalError for damage, and for a file that cannot be read.
    """

    def __init__(self) -> None:
        self._files: list[BinaryIO] = []
        self._followed: dict[Path, _Followed] = {}
        self._crashed: dict[bytes, dict[int, Place]] = {}

    @property
    def next_number(self) -> int:
        """That of the next file that is opened."""
        return len(self._files)

    def answers_in(self, path: Path) -> Iterator[tuple[bytes, Place]]:
        """The keys and places of all answers in a file."""
        followed = self._followed[path] = _Followed()
        with reading(path):
            self._open(path, followed)
        yield from self._read(path, followed)

    def answers_behind(self, path: Path) -> Iterator[tuple[bytes, Place]]:
        """Those behind what was read of a file before; none once it was left alone."""
        followed = self._followed.setdefault(path, _Followed())
        if followed.damaged:
            return
        with reading(path):
            found = path.stat()
            # A shard that begins may put a shorter file in the place of its own.
            if followed.inode != found.st_ino:
                self._open(path, followed)
        if found.st_size > followed.end:
            yield from self._read(path, followed)

    def leave_alone(self, path: Path) -> None:
        """Read no further in a file; what it has answered before its damage counts."""
        self._followed[path].damaged = True

    def lines_in(self, path: Path) -> int:
        """How many lines of a file were read."""
        return self._followed[path].lines

    def line_at(self, place: Place) -> dict[str, Any]:
        """The fields of the line that begins there. To be called from any thread."""
        return read_line(self._files[place.file], place.offset)

    def path_of(self, place: Place) -> Path:
        """The file of a place."""
        return Path(self._files[place.file].name)

    def crashes(self, key: bytes) -> int:
        """How often a worker died over the photo of that key. To be called from any thread."""
        # The last word of each shard; the deaths that one has seen are as true for the others.
        places = self._crashed.get(key, {})
        return max((int(self.line_at(place)["crashes"]) for place in [*places.values()]), default=0)

    def crash_counts(self) -> dict[bytes, int]:
        """`crashes` of all photos over which a worker died, by their keys."""
        return {key: crashes for key in self._crashed if (crashes := self.crashes(key))}

    def close(self) -> None:
        """Close all files, and forget what was read."""
        for file in self._files:
            file.close()
        self._files, self._followed, self._crashed = [], {}, {}

    def _open(self, path: Path, followed: _Followed) -> None:
        file = path.open("rb")
        self._files.append(file)
        followed.number, followed.lines, followed.end = len(self._files) - 1, 0, 0
        followed.inode = os.fstat(file.fileno()).st_ino

    def _read(self, path: Path, followed: _Followed) -> Iterator[tuple[bytes, Place]]:
        for line in intact_lines(path, start=followed.end, opened=self._files[followed.number]):
            followed.lines += 1
            followed.end = line.end
            place = Place(followed.number, line.offset)
            if line.status == SUMMARISED.encode():
                yield line.key, place
            elif line.status == CRASHED.encode():
                self._crashed.setdefault(line.key, {})[followed.number] = place

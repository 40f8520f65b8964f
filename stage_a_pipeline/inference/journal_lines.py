"""The lines of a journal: JSON objects that end in a checksum of their own bytes."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from stage_a_pipeline.errors import JournalError
from stage_a_pipeline.inference.answer_index import answer_key

SUMMARISED: Final = "summarised"
CRASHED: Final = "crashed"
REJECTED: Final = "rejected"
_KEY_PATTERN: Final = re.compile(
    rb'\{"sha256":"([^"\\]*)","fingerprint":"([^"\\]*)","status":"([^"\\]*)"',
)
_CRC_MARK: Final = b',"crc":"'
_CRC_TAIL: Final = len(b'00000000"}\n')


def encode_line(fields: Mapping[str, object]) -> bytes:
    """A line of these fields; the key (`sha256`, `fingerprint`, `status`) comes first."""
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    head = body[:-1]
    return head + _CRC_MARK + f'{zlib.crc32(head):08x}"}}\n'.encode()


class JournalLine(NamedTuple):
    """What the index needs of a line that begins at `offset` and ends before `end`."""

    offset: int
    end: int
    sha256: bytes
    fingerprint: bytes
    status: bytes

    @property
    def key(self) -> bytes:
        return answer_key(self.sha256, self.fingerprint)

    @property
    def compact_key(self) -> bytes:
        """Of lines with the same one, the last says all."""
        if self.status != CRASHED.encode():
            return self.key
        return answer_key(self.sha256, self.fingerprint + b":" + self.status)


def intact_lines(path: Path, *, start: int = 0, opened: BinaryIO | None = None) -> Iterator[JournalLine]:
    """All complete lines from `start` on; a torn last line of another shard is passed over.

    Where the file is `opened`, they are that one's, also when another is in its place by now.
    """
    offset = start
    with reading(path), path.open("rb") if opened is None else nullcontext(opened) as file:
        file.seek(start)
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end = offset + len(line)
            # Where reading began further on, there is no number of lines to tell.
            yield _read_key(_checked(line, path, None if start else number), offset, end)
            offset = end


def _read_key(head: bytes, offset: int, end: int) -> JournalLine:
    # What `append` writes begins so, and reading no further is several times faster than all of it.
    if found := _KEY_PATTERN.match(head):
        sha256, fingerprint, status = found.groups()
    else:
        fields = _fields(head)
        sha256, fingerprint, status = (
            str(fields[name]).encode("utf-8", "surrogatepass") for name in ("sha256", "fingerprint", "status")
        )
    return JournalLine(offset, end, sha256, fingerprint, status)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns a failed read of `path` into a JournalError."""
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"journal {path} cannot be read: {error.strerror or error}; make it readable for this user, "
            "or move it away to have its photos summarised again"
        ) from error


def read_line(file: BinaryIO, offset: int) -> dict[str, Any]:
    """The fields of the line that begins there. JournalError when it is damaged."""
    return _fields(_checked(_line_at(file, offset), Path(file.name), None))


def _fields(head: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((head + b"}").decode("utf-8", "surrogatepass"))
    return fields


def _checked(line: bytes, path: Path, number: int | None) -> bytes:
    """The line up to its CRC. JournalError when that does not fit."""
    head, mark, tail = line.rpartition(_CRC_MARK)
    intact = mark and len(tail) == _CRC_TAIL and tail[:8] == b"%08x" % zlib.crc32(head)
    if not intact:
        where = f"line {number}" if number is not None else "a line"
        raise JournalError(
            f"journal {path}, {where} is damaged; restore the file, or remove it "
            "to have its photos summarised again"
        )
    return head


def _line_at(file: BinaryIO, offset: int, chunk: int = 1 << 12) -> bytes:
    """The line that begins there. Several threads may read one file: nobody moves its position."""
    line = b""
    while b"\n" not in line and (data := os.pread(file.fileno(), chunk, offset + len(line))):
        line += data
    return line[: line.find(b"\n") + 1]


def end_of_last_line(path: Path, size: int, chunk: int = 1 << 16) -> int:
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

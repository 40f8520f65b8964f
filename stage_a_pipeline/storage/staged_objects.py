"""Whole objects in place of others, in stores that cannot rename.

The content goes to a key of its own beside the target, is read back and compared, and then copied over the
target by the store itself, which replaces an object at once. A process that is killed in between leaves that
key behind, and the target as it was.
"""

from __future__ import annotations

import errno
import filecmp
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.temporary import (
    TEMPORARY,
    make_temporary_file,
    temporary_file,
    temporary_name,
)


class StagedObject:
    """The next content of an object: write it to `handle`, then `commit` puts it in place.

    It is made on this machine, in its temporary folder.
    """

    def __init__(self, place: UPath) -> None:
        self.path = place
        self._beside: UPath | None = None
        self._unchanged = False
        self._local = make_temporary_file()
        with output_errors(self.disk):
            self.handle: BinaryIO = self._local.open("wb")

    @property
    def disk(self) -> Path:
        """What is at fault where writing to the handle fails."""
        return self._local.parent

    def close(self) -> None:
        """Bring the content to the store, unless it is there already. The handle may be closed already."""
        with output_errors(self.disk):
            self.handle.close()
        with output_errors(self.path):
            self._unchanged = holds(self.path, self._local)
            if not self._unchanged and self._beside is None:
                self._beside = upload_beside(self._local, self.path)

    def is_unchanged(self) -> bool:
        """Whether the object already holds exactly the closed content."""
        return self._unchanged

    def commit(self) -> None:
        """Put the closed content in place."""
        if self._beside is None:
            return
        with output_errors(self.path):
            objects.copy(self._beside, self.path)
            objects.remove(self._beside)
        self._beside = None

    def discard(self) -> None:
        """Drop what was not committed."""
        # As with files: what went wrong first is what the user must see, and leftovers are pruned.
        with suppress(OSError):
            self.handle.close()
        with suppress(OSError):
            self._local.unlink(missing_ok=True)
        if self._beside is not None:
            with suppress(OSError):
                objects.remove(self._beside)


def put_whole(source: Path, place: UPath) -> None:
    """Put a copy of a file in place of an object. Raises OSError."""
    beside = upload_beside(source, place)
    objects.copy(beside, place)
    objects.remove(beside)


def upload_beside(source: Path, place: UPath) -> UPath:
    """Where a copy of the file is now, beside the object that it is to replace. Raises OSError."""
    beside = place.parent / temporary_name()
    objects.upload(source, beside)
    if not holds(beside, source):
        raise OSError(errno.EIO, f"what was stored as {beside} is not what was sent")
    return beside


def holds(place: UPath, content: Path) -> bool:
    """Whether an object has the same bytes as a file. Raises OSError."""
    try:
        state = objects.look(place)
        if state.size != content.stat().st_size:
            return False
        with temporary_file() as copied:
            objects.download(place, copied, state)
            return filecmp.cmp(copied, content, shallow=False)
    except FileNotFoundError:
        # Also one that somebody has just removed.
        return False


def leftover_objects(folder: UPath, oldest: float) -> Iterator[UPath]:
    """Objects that killed processes left directly below a prefix before that time (seconds since 1970)."""
    try:
        names = [name for name, _ in objects.children(folder)]
    except FileNotFoundError:
        return
    for name in sorted(names):
        # Another run may be publishing: its keys come and go.
        with suppress(FileNotFoundError):
            if fnmatchcase(name, TEMPORARY.format("*")) and objects.modified(folder / name) < oldest:
                yield folder / name

"""Photos of an object store on this machine's disk, within a bound: those not used for longest go first."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Final

from upath import UPath

from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.fetched import fetched
from stage_a_pipeline.storage.known_hashes import object_key
from stage_a_pipeline.storage.temporary import TEMPORARY

_KEPT_SHARE: Final = 3 / 4
_LOOK_AFTER_SHARE: Final = 1 / 64
"""Sixteen processes that each add so much before they look again stay within the bound together."""

_LONGEST_FETCH_SECONDS: Final = 3600.0
"""What began longer ago is of a process that was killed."""


class PhotoCache:
    """Files by the URL, size and version of their object; safe among threads and processes.

    A file is there whole or not at all, and outlives its removal for whoever has it open. Raises OSError
    for what is wrong with an object, OutputError for what is wrong with the folder.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        # What earlier runs have left counts as well: the first photo looks.
        self._added = limit_bytes

    @contextmanager
    def open(self, place: UPath, seen: objects.ObjectState) -> Iterator[tuple[BinaryIO, objects.ObjectState]]:
        """An object's content to read, and the state that it is of; fetched where it is not here yet.

        `seen` is the state in which the object was just now.
        """
        with output_errors(self._folder):
            kept = self._find(self._folder / object_key(place, seen), seen.size)
        file, state = (kept, seen) if kept is not None else self._fetch(place, seen)
        with file, output_errors(self._folder):
            yield file, state

    def _find(self, path: Path, size: int) -> BinaryIO | None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != size:
            # A machine that lost its power may have kept the name and lost the content.
            file.close()
            return None
        # What another user has fetched is as good; it passes for what was not used for longer.
        with suppress(PermissionError):
            os.utime(file.fileno())
        return file

    def _fetch(self, place: UPath, seen: objects.ObjectState) -> tuple[BinaryIO, objects.ObjectState]:
        with fetched(place, self._folder, seen) as (temporary, state):
            # Opened before others know of it, who might remove it.
            file = temporary.open("rb")
            temporary.replace(self._folder / object_key(place, state))
        with output_errors(self._folder):
            self._count(state.size)
        return file, state

    def _count(self, size: int) -> None:
        with self._lock:
            self._added += size
            if self._added >= self._limit * _LOOK_AFTER_SHARE:
                self._added = 0
                self._make_room()

    def _make_room(self) -> None:
        found = sorted(self._files())
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self._limit * _KEPT_SHARE:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was last used, its size, and where it is; not those that are being fetched."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Another process may be making room too.
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    being_fetched = fnmatchcase(entry.name, TEMPORARY.format("*"))
                    if not being_fetched or status.st_mtime < time.time() - _LONGEST_FETCH_SECONDS:
                        yield status.st_mtime, status.st_size, Path(entry.path)

"""Files that others read: a reader sees the old file or the new one, never half of either.

On disk: into a temporary file beside the target, flushed, fsynced, renamed over it, the folder
fsynced. In an object store, `staged_objects` does the same with keys.
"""

from __future__ import annotations

import errno
import filecmp
import io
import os
import shutil
import time
import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, TypeVar, overload

from upath import UPath

from stage_a_pipeline.errors import OutputError, StoreError
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.failures import output_error, output_errors
from stage_a_pipeline.storage.staged_objects import StagedObject, leftover_objects
from stage_a_pipeline.storage.temporary import TEMPORARY, temporary_file, temporary_name

AnyPlace = TypeVar("AnyPlace", Path, UPath, Place)


def child_path(folder: AnyPlace, name: str) -> AnyPlace:
    """The path of `name` (NFC) directly below `folder`; OutputError for a name that leads elsewhere."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
        raise OutputError(f"{name!r} cannot be a file name below {folder}; leave out / \\ and '..'")
    return folder / unicodedata.normalize("NFC", name)


def ensure_folder(folder: AnyPlace) -> AnyPlace:
    """`folder`, created with its parents where it is missing; OutputError when that fails.

    An object store has no folders that could be missing.
    """
    if isinstance(folder, Path):
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return folder


def exists(place: Place) -> bool:
    """Whether there is such a file or folder, or such an object. StoreError where a store cannot tell."""
    if isinstance(place, Path):
        return place.exists()
    try:
        return objects.exists(place)
    except OSError as error:
        raise StoreError(
            f"{place} cannot be looked for: {error.strerror}; check the network and the credentials"
        ) from error


def read_bytes(place: Place) -> bytes:
    """The content of a small file. Raises OSError."""
    return place.read_bytes() if isinstance(place, Path) else objects.get_bytes(place)


def remove_file(place: Place) -> None:
    """Remove a file, if it is there. Raises OSError."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        objects.remove(place)


@contextmanager
def open_to_read(place: Place) -> Iterator[BufferedReader]:
    """A file to read; that of a store is fetched whole first. Raises OSError, OutputError."""
    if isinstance(place, Path):
        with place.open("rb") as file:
            yield file
        return
    with temporary_file() as copied:
        objects.download(place, copied)
        with copied.open("rb") as file:
            yield file


class StagedFile:
    """The next content of `path`: write it to `handle`, then `commit` puts it in place."""

    def __init__(self, path: Path) -> None:
        # Through a symbolic link the file it leads to is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        # Not built from the file's name, which may already be as long as a name can be.
        self._temporary = self.path.parent / temporary_name()
        with output_errors(path):
            # "x": never another process's file. Its mode is cut by the umask, as a plain open would.
            self.handle: BinaryIO = self._temporary.open("xb")

    @property
    def disk(self) -> Path:
        """What is at fault where writing to the handle fails."""
        return self.path

    def close(self) -> None:
        """Bring the content to disk. Safe to call twice, and after the handle was closed."""
        with output_errors(self.path):
            self.handle.close()
            _fsync(self._temporary)

    def is_unchanged(self) -> bool:
        """Whether `path` already holds exactly the closed content."""
        try:
            return filecmp.cmp(self._temporary, self.path, shallow=False)
        except FileNotFoundError:
            return False

    def commit(self) -> None:
        """Put the closed content in place of `path`, durably."""
        with output_errors(self.path):
            self._temporary.replace(self.path)
            _fsync(self.path.parent)

    def discard(self) -> None:
        """Drop what was not committed."""
        # A leftover does no harm, and closing may repeat a failed write: what went wrong first is
        # what the user must see.
        with suppress(OSError):
            self.handle.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextmanager
def stage_file(path: Place) -> Iterator[StagedFile | StagedObject]:
    """A StagedFile, or StagedObject, that is discarded on leaving unless it was committed.

    A write that fails inside raises OutputError; an OSError about another file passes as it is.
    """
    staged = StagedFile(path) if isinstance(path, Path) else StagedObject(path)
    try:
        yield staged
    except OSError as error:
        # A failed write names no file, a failed open of something else does.
        if error.filename is not None:
            raise
        raise output_error(staged.disk, error) from error
    finally:
        staged.discard()


@overload
def atomic_write(path: Place, mode: Literal["w"] = "w") -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(path: Place, mode: Literal["wb"]) -> AbstractContextManager[BinaryIO]: ...
@contextmanager
def atomic_write(path: Place, mode: Literal["w", "wb"] = "w") -> Iterator[Any]:
    """A handle whose content replaces `path` when the block ends, and is dropped when it raises.

    Text is UTF-8 with LF. Raises OutputError where the folder is missing, not writable or full.
    """
    with stage_file(path) as staged:
        if mode == "wb":
            yield staged.handle
        else:
            text = io.TextIOWrapper(staged.handle, encoding="utf-8", newline="\n")
            yield text
            text.flush()
        staged.close()
        staged.commit()


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """An empty folder for what is moved elsewhere once all of it is there; removed when the block ends.

    What a killed process has left of it is removed first. Raises OutputError.
    """
    with output_errors(path):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def prune_folders(folder: Path, *, older_than_days: float) -> Iterator[Path]:
    """Delete the folders directly below `folder` in which nothing was changed since then; yields each.

    What counts is the newest change anywhere below: a folder's own time does not tell of a file that
    was written deep inside it.
    """
    oldest = time.time() - older_than_days * 86_400
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Another run may be pruning the same folder.
        with suppress(FileNotFoundError):
            if entry.is_dir() and not entry.is_symlink() and _last_change(entry) < oldest:
                shutil.rmtree(entry)
                yield entry


def prune_leftovers(folder: Place, *, older_than_days: float) -> Iterator[Place]:
    """Delete files that killed processes had not finished writing in `folder`; yields each."""
    oldest = time.time() - older_than_days * 86_400
    if not isinstance(folder, Path):
        with output_errors(folder):
            for leftover in leftover_objects(folder, oldest):
                objects.remove(leftover)
                yield leftover
        return
    for path in sorted(folder.glob(TEMPORARY.format("*"))):
        # Another run may be pruning the same folder.
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < oldest:
                path.unlink()
                yield path


def _last_change(folder: Path) -> float:
    """The newest modification time of the folder and of everything below it; links are not followed."""
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _fsync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; the rename itself has succeeded.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)

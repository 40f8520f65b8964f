"""The folders of a host: one for each actor, and one for the photos that all of them fetch from a store."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.storage import output_errors

_PHOTOS: Final = "photos"


class Scratch:
    """A new `folder` for an actor, which holds a lock on it for as long as it lives.

    What actors have left that were killed is removed by the next one of the same user, the photos by the
    last that ends. Raises OutputError.
    """

    def __init__(self) -> None:
        self._hosts = _own_folder(Path(tempfile.gettempdir()) / f"stage-a-hosts-{os.getuid()}")
        with output_errors(self._hosts), _locked(self._hosts):
            _remove_dead(self._hosts)
            self.folder = Path(tempfile.mkdtemp(dir=self._hosts))
            self._lock = _open_folder(self.folder)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Leave nothing behind that no other actor needs."""
        with output_errors(self._hosts), _locked(self._hosts):
            os.close(self._lock)
            if not _remove_dead(self._hosts):
                shutil.rmtree(self._hosts / _PHOTOS, ignore_errors=True)


def photos_beside(folder: Path) -> Path:
    """The folder for photos of the host on which an actor has this one."""
    return folder.parent / _PHOTOS


def _own_folder(folder: Path) -> Path:
    """The folder, which nobody else may read, created where it is missing."""
    with output_errors(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise OutputError(
                f"{folder} is no folder of this user: somebody else may have put it there; remove it, or set "
                "TMPDIR for Ray on that host to a folder of its own"
            )
        folder.chmod(0o700)
    return folder


def _remove_dead(hosts: Path) -> bool:
    """Remove the folders of actors that are gone; whether any is left."""
    is_any_left = False
    for folder in hosts.iterdir():
        if folder.name == _PHOTOS or not folder.is_dir():
            continue
        descriptor = _open_folder(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_any_left = True
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
    return is_any_left


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _open_folder(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

"""Objects of a store, one call at a time: patient with a store that is busy, and whole or not at all.

What fails raises OSError, as files do: FileNotFoundError and PermissionError where the store says so,
any other one after several tries. Backends have errors of their own, which are told in its terms.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import tenacity
from upath import UPath

_ATTEMPTS: Final = 4
"""On top of those that a backend makes for each of its requests."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0
_NO_MORE_TRIES_AFTER: Final = 60.0
"""Seconds: of a store that does not even refuse, each try takes long enough."""

_OWN_ERRORS: Final = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}
"""What backends raise besides OSError, by module."""

_NO_CREDENTIALS: Final = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_LASTING: Final = frozenset(
    [
        errno.ENOENT,
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
    ]
)
"""Asking again would get the same answer."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CutOffError(OSError):
    """An object that came shorter, or longer, than the store says it is."""

    def __init__(self, place: UPath, size: int, received: int) -> None:
        super().__init__(errno.EIO, f"{received} of {size} bytes came", str(place))


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object's size in bytes, and a text that differs when its content does."""

    size: int
    version: str


def look(place: UPath) -> ObjectState:
    """The state of an object. IsADirectoryError for a prefix."""
    found = patiently(lambda: place.fs.info(place.path))
    if found["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(place))
    return state_of(found)


def exists(place: UPath) -> bool:
    """Whether there is such an object."""
    try:
        look(place)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def modified(place: UPath) -> float:
    """When an object was stored, in seconds since 1970."""
    return float(patiently(lambda: place.fs.modified(place.path)).timestamp())


def state_of(entry: dict[str, Any]) -> ObjectState:
    """The state of an object as a listing tells it."""
    names = ("ETag", "etag", "md5Hash", "updated", "created")
    version = next((str(entry[name]) for name in names if entry.get(name)), "")
    return ObjectState(int(entry["size"]), version)


def children(folder: UPath) -> list[tuple[str, bool]]:
    """Names directly below a prefix, and whether each is a folder; FileNotFoundError where there is nothing.

    NotADirectoryError for an object.
    """
    entries = patiently(lambda: folder.fs.ls(folder.path, detail=True))
    top = folder.path.rstrip("/")
    found = []
    for entry in entries:
        name = entry["name"].rstrip("/")
        if name != top:
            found.append((name.rpartition("/")[2], entry["type"] == "directory"))
        elif entry["type"] != "directory" and not entry["name"].endswith("/") and len(entries) == 1:
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(folder))
    return found


def everything_below(folder: UPath) -> Iterator[tuple[str, ObjectState]]:
    """All objects below a prefix by their keys relative to it, in no promised order.

    One listing in pages, however many folders there are. The prefix's own mark is an empty key.
    """
    entries = patiently(lambda: folder.fs.find(folder.path, detail=True))
    top = len(folder.path.rstrip("/")) + 1
    while entries:
        name, entry = entries.popitem()
        if entry["type"] != "directory" and len(name) >= top:
            yield name[top:], state_of(entry)


def download(place: UPath, target: Path, state: ObjectState | None = None) -> None:
    """Write an object to a file, which is complete then; one that is cut off is asked for again."""
    known = look(place) if state is None else state

    def fetch() -> None:
        place.fs.get_file(place.path, str(target))
        if (received := target.stat().st_size) != known.size:
            raise CutOffError(place, known.size, received)

    patiently(fetch)


def upload(source: Path, place: UPath) -> None:
    """Store a file as an object."""
    patiently(lambda: place.fs.put_file(str(source), place.path))


def put_bytes(place: UPath, content: bytes) -> None:
    """Store some bytes as an object."""
    patiently(lambda: place.fs.pipe_file(place.path, content))


def get_bytes(place: UPath) -> bytes:
    """All bytes of a small object."""
    state = look(place)

    def fetch() -> bytes:
        content: bytes = place.fs.cat_file(place.path)
        if len(content) != state.size:
            raise CutOffError(place, state.size, len(content))
        return content

    return patiently(fetch)


def copy(source: UPath, target: UPath) -> None:
    """Copy an object within its store, which replaces the target at once."""
    patiently(lambda: target.fs.cp_file(source.path, target.path))


def remove(place: UPath) -> None:
    """Remove an object; one that is not there is removed already."""
    try:
        patiently(lambda: place.fs.rm_file(place.path))
    except FileNotFoundError:
        return


def patiently(call: Callable[[], T]) -> T:
    """The call's result; tried again while the store is busy, broken, or cut off in the middle."""
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_after_delay(_NO_MORE_TRIES_AFTER),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        before_sleep=tenacity.before_sleep_log(_log, logging.INFO),
        reraise=True,
    )
    result: T = tries(_in_terms_of_files, call)
    return result


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno not in _LASTING


def _in_terms_of_files(call: Callable[[], T]) -> T:
    try:
        return call()
    except CutOffError:
        raise
    except _backend_errors() as error:
        raise _as_os_error(error) from error


def _backend_errors() -> tuple[type[Exception], ...]:
    loaded = ((sys.modules.get(module), names) for module, names in _OWN_ERRORS.items())
    own = (getattr(module, name) for module, names in loaded if module is not None for name in names)
    return (OSError, *own)


def _as_os_error(error: Exception) -> OSError:
    """The same failure as an OSError with number and text, which tell people and `patiently` what it is."""
    told = str(error) or type(error).__name__
    if type(error).__name__ in _NO_CREDENTIALS:
        return PermissionError(errno.EACCES, f"no credentials were found ({told})")
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"the store denies it ({told})")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, f"there is no such object or bucket ({told})")
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror or told)
    return OSError(errno.EIO, told)

"""Objects of a store, one call at a time: patient with a store that is busy, and whole or not at all.

What fails raises OSError, as files do: FileNotFoundError and PermissionError where the store says so,
any other one after several tries, EBUSY where it asks for fewer requests. Backends have errors of their own,
which are told in its terms. What is wrong with this machine's own disk raises OutputError.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import tenacity
from upath import UPath

from stage_a_pipeline.storage.failures import output_error

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
    ]
)
"""Asking again would get the same answer."""

_OF_THIS_MACHINE: Final = frozenset(
    [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE]
)
"""No store says these."""

_TOO_MANY_REQUESTS: Final = 429

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CutOffError(OSError):
    """An object that came shorter, or longer, than the store says it is."""

    def __init__(self, place: UPath, size: int, received: int) -> None:
        super().__init__(errno.EIO, f"{received} of {size} bytes came", str(place))


class ReplacedError(OSError):
    """An object that somebody replaced while it was fetched."""

    def __init__(self, place: UPath) -> None:
        super().__init__(errno.EAGAIN, "somebody replaced it each time it was fetched", str(place))


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object's size in bytes, and a text that differs when its content does."""

    size: int
    version: str


def look(place: UPath) -> ObjectState:
    """The state of an object. IsADirectoryError for a prefix."""
    return patiently(lambda: _look(place))


def _look(place: UPath) -> ObjectState:
    found = place.fs.info(place.path)
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


def download(place: UPath, target: Path, seen: ObjectState | None = None) -> ObjectState:
    """Write an object to a file, which is complete then, and tell in which state it was.

    `seen` is its state where that was just looked up. An object that is cut off, or replaced meanwhile, is
    asked for again.
    """

    def fetch() -> ObjectState:
        nonlocal seen
        before = seen or _look(place)
        with _local_faults(target):
            place.fs.get_file(place.path, str(target))
            received = target.stat().st_size
        seen = _look(place)
        if seen != before:
            raise ReplacedError(place)
        if received != before.size:
            raise CutOffError(place, before.size, received)
        return before

    return patiently(fetch)


def upload(source: Path, place: UPath) -> None:
    """Store a file as an object."""

    def store() -> None:
        with _local_faults(source):
            place.fs.put_file(str(source), place.path)

    patiently(store)


def put_bytes(place: UPath, content: bytes) -> None:
    """Store some bytes as an object."""
    patiently(lambda: place.fs.pipe_file(place.path, content))


def get_bytes(place: UPath) -> bytes:
    """All bytes of a small object."""

    def fetch() -> bytes:
        state = _look(place)
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
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_after_delay(_NO_MORE_TRIES_AFTER),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        before_sleep=tenacity.before_sleep_log(_log, logging.INFO),
        reraise=True,
    )
    result: T = tries(_in_terms_of_files, call)
    return result


def may_pass(error: BaseException) -> bool:
    """Whether the store might answer otherwise later."""
    return isinstance(error, OSError) and error.errno not in _LASTING


@contextmanager
def _local_faults(path: Path) -> Iterator[None]:
    """Tells what is wrong with this machine's file from what is wrong with an object."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THIS_MACHINE or error.filename == str(path):
            raise output_error(path.parent, error) from error
        raise


def _in_terms_of_files(call: Callable[[], T]) -> T:
    try:
        return call()
    except (CutOffError, ReplacedError):
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
    if _http_status(error) == _TOO_MANY_REQUESTS:
        return OSError(errno.EBUSY, told)
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror or told)
    return OSError(errno.EIO, told)


def _http_status(error: Exception) -> object:
    """What the store answered, where the backend tells: s3fs in the cause, gcsfs by a code."""
    answer = getattr(error.__cause__, "response", None)
    if isinstance(answer, dict):
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(error, "code", None)

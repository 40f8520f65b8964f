"""Files that others read, and the locks around them.

Writing: into a temporary file beside the target, flushed, fsynced, renamed over it, the folder
fsynced. A reader sees the old file or the new one, never half of either.

Locks are the operating system's advisory locks: they end with their holder, however it ends. Lock
files stay behind on purpose; deleting one would let two holders lock two files of the same name.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import io
import json
import os
import secrets
import shutil
import socket
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TextIO, overload

from filelock import BaseFileLock, FileLock, Timeout

from stage_a_pipeline.errors import LockedError, OutputError

_TEMPORARY: Final = ".stage-a-{}.tmp"
_REMEDIES: Final = {
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "a file stands where a folder should be; choose another folder",
    errno.EISDIR: "a folder stands where the file should be; move it away",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space or choose a folder on another disk",
    errno.EDQUOT: "free some of your quota or choose a folder on another disk",
    errno.EFBIG: "raise the limit on file sizes or choose a folder on another disk",
    errno.EROFS: "choose a folder that is not mounted read-only",
    errno.EACCES: "make the folder writable for this user or choose another",
    errno.EPERM: "make the folder writable for this user or choose another",
    errno.ENOLCK: "choose a folder on a disk that supports file locks",
    errno.EOPNOTSUPP: "choose a folder on a disk that supports file locks",
    errno.ENOSYS: "choose a folder on a disk that supports file locks",
}


def child_path(folder: Path, name: str) -> Path:
    """The path of `name` (NFC) directly below `folder`; OutputError for a name that leads elsewhere."""
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
        raise OutputError(f"{name!r} cannot be a file name below {folder}; leave out / \\ and '..'")
    return folder / unicodedata.normalize("NFC", name)


def ensure_folder(folder: Path) -> Path:
    """`folder`, created with its parents where it is missing; OutputError when that fails."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns a failed write of `path` into an OutputError that names the file, cause and remedy."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError) -> OutputError:
    remedy = _REMEDIES.get(error.errno or 0, "check the disk and the path")
    return OutputError(f"{path} cannot be written: {error.strerror or error}; {remedy}")


class StagedFile:
    """The next content of `path`: write it to `handle`, then `commit` puts it in place."""

    def __init__(self, path: Path) -> None:
        # Through a symbolic link the file it leads to is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        # Not built from the file's name, which may already be as long as a name can be.
        self._temporary = self.path.parent / _TEMPORARY.format(f"{os.getpid()}-{secrets.token_hex(8)}")
        with output_errors(path):
            # "x": never another process's file. Its mode is cut by the umask, as a plain open would.
            self.handle: BinaryIO = self._temporary.open("xb")

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
def stage_file(path: Path) -> Iterator[StagedFile]:
    """A StagedFile that is discarded on leaving unless it was committed.

    A write that fails inside raises OutputError; an OSError about another file passes as it is.
    """
    staged = StagedFile(path)
    try:
        yield staged
    except OSError as error:
        # A failed write names no file, a failed open of something else does.
        if error.filename is not None:
            raise
        raise _output_error(path, error) from error
    finally:
        staged.discard()


@overload
def atomic_write(path: Path, mode: Literal["w"] = "w") -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(path: Path, mode: Literal["wb"]) -> AbstractContextManager[BinaryIO]: ...
@contextmanager
def atomic_write(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[Any]:
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


def prune_leftovers(folder: Path, *, older_than_days: float) -> Iterator[Path]:
    """Delete files that killed processes had not finished writing in `folder`; yields each."""
    oldest = time.time() - older_than_days * 86_400
    for path in sorted(folder.glob(_TEMPORARY.format("*"))):
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


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock: since when (ISO time), for what, and for which run."""

    pid: int
    host: str
    since: str
    purpose: str
    run_id: str | None = None

    def __str__(self) -> str:
        run = f", run {self.run_id}" if self.run_id is not None else ""
        return f"pid {self.pid} on {self.host} since {self.since} ({self.purpose}{run})"

    @property
    def may_live(self) -> bool:
        """False only for a process that is known to have ended. Other hosts cannot be asked."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                return True
        return True


def _this_process(purpose: str, run_id: str | None = None) -> Holder:
    since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    return Holder(os.getpid(), socket.gethostname(), since, purpose, run_id)


def _write_holders(holders: list[Holder], descriptor: int) -> None:
    lines = [json.dumps(asdict(holder), ensure_ascii=False) + "\n" for holder in holders]
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, "".join(lines).encode("utf-8", "backslashreplace"), 0)


def _read_holders(path: Path) -> list[Holder]:
    try:
        return [Holder(**json.loads(line)) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError, TypeError):
        # Notes are for people. A holder writes its own just after locking, so it may be missing.
        return []


_claims: Final[set[int]] = set()
"""Descriptors of the claims this process holds."""


def _drop_inherited_claims() -> None:
    while _claims:
        os.close(_claims.pop())


# A forked child shares its parent's locks and would keep them after the parent's death. Closing the
# child's descriptors leaves the parent's locks alone.
os.register_at_fork(after_in_child=_drop_inherited_claims)


@contextmanager
def claim_output(lock_dir: Path, mission: str, *, run_id: str, purpose: str) -> Iterator[None]:
    """Claim one mission's output for this run.

    Any number of processes of one run hold it together. LockedError, at once, while another run
    holds it; the message names a process of that run. A claim ends with its process. The lock file
    holds one JSON line per holder, for people to read; only the OS lock counts.
    """
    path = child_path(ensure_folder(lock_dir), f"{mission}.lock")
    descriptor = _open_lock(path)
    try:
        # The guard makes "look, then lock" one step, since flock cannot trade one lock for another
        # without letting go in between.
        with _guarded(path.with_name(f".{path.name}-guard")), output_errors(path):
            _join(descriptor, path, _this_process(purpose, run_id))
    except BaseException:
        os.close(descriptor)
        raise
    _claims.add(descriptor)
    try:
        yield
    finally:
        # In a forked child the descriptor is gone already.
        if descriptor in _claims:
            _claims.remove(descriptor)
            os.close(descriptor)


def _join(descriptor: int, path: Path, me: Holder) -> None:
    others: list[Holder] = []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        known = _read_holders(path)
        others = [holder for holder in known if holder.may_live]
        if not any(holder.run_id == me.run_id for holder in known):
            whom = str(others[0]) if others else "another run"
            raise LockedError(
                f"the output of mission {path.stem} is being written by {whom}; wait until that run "
                f"ends, or stop it, and start again (lock {path})"
            ) from None
    _write_holders([*others, me], descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _open_lock(path: Path) -> int:
    with output_errors(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        with output_errors(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def device_lease(
    lease_dir: Path,
    device: str,
    *,
    on_wait: Callable[[str], None],
    while_waiting: Callable[[], None] = lambda: None,
    poll_seconds: float = 0.2,
    report_seconds: float = 60.0,
) -> Iterator[None]:
    """Hold `device` for this process, waiting without limit while another holds it.

    `on_wait` gets a sentence naming the holder at once and then every `report_seconds`; `while_waiting` is
    called every second, and may raise to wait no longer. The lease ends with its process.
    """
    path = child_path(ensure_folder(lease_dir), f"{device}.lease")
    note = path.with_suffix(".holder.json")
    lock = FileLock(path, thread_local=False, poll_interval=poll_seconds)
    report_at = time.monotonic()
    while not _acquired(lock, path, seconds=min(1.0, max(0.0, report_at - time.monotonic()))):
        while_waiting()
        if time.monotonic() >= report_at:
            holder = next(iter(_read_holders(note)), None)
            on_wait(f"device {device} is taken; waiting for {holder or 'another process'}")
            report_at = time.monotonic() + report_seconds
    try:
        with atomic_write(note) as file:
            file.write(json.dumps(asdict(_this_process("device lease"))) + "\n")
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, path: Path, *, seconds: float) -> bool:
    with output_errors(path):
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            return False
    return True

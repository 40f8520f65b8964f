"""Who is at work: claims on outputs, leases of devices.

Locks are the operating system's advisory locks: they end with their holder, however it ends. Lock
files stay behind on purpose; deleting one would let two holders lock two files of the same name.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

from stage_a_pipeline.errors import LockedError
from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.files import atomic_write, child_path, ensure_folder


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


def this_process(purpose: str, run_id: str | None = None) -> Holder:
    """This process, as others are told of it."""
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
def claim_output(
    lock_dir: Path, mission: str, *, run_id: str, purpose: str, what: str = "the output of mission {}"
) -> Iterator[None]:
    """Claim one mission's output for this run, or something else, which `what` names for people.

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
            _join(descriptor, path, this_process(purpose, run_id), what.format(mission))
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


def _join(descriptor: int, path: Path, me: Holder, what: str) -> None:
    others: list[Holder] = []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        known = _read_holders(path)
        others = [holder for holder in known if holder.may_live]
        if not any(holder.run_id == me.run_id for holder in known):
            whom = str(others[0]) if others else "another run"
            raise LockedError(
                f"{what} is being written by {whom}; wait until that run "
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
            file.write(json.dumps(asdict(this_process("device lease"))) + "\n")
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

"""Journals beside an output that is an object store: fetched before a shard, stored after it.

A journal is written on this machine. Its copy in the store, `work/journal/<mission>/<shard>.<origin>.jsonl`
below the output, has the name of this work folder in its own: nobody writes over another's, and whoever
comes later reads them all.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from upath import UPath

from stage_a_pipeline.errors import JournalError, OutputError, StoreError
from stage_a_pipeline.inference import answer_index
from stage_a_pipeline.inference.journal_lines import intact_lines
from stage_a_pipeline.inference.run_notes import RunNotes, Writer
from stage_a_pipeline.places import Place
from stage_a_pipeline.settings import OutputSettings
from stage_a_pipeline.storage import child_path, ensure_folder, objects, output_errors
from stage_a_pipeline.storage.fetched import fetched
from stage_a_pipeline.storage.staged_objects import put_whole
from stage_a_pipeline.storage.temporary import temporary_name

_ORIGIN: Final = "origin"
_JOURNAL: Final = "journal"
_ANYWHERE: Final = answer_index.Place(0, 0)


@contextmanager
def shared_journals(output: OutputSettings, writer: Writer, tell: Callable[[str], None]) -> Iterator[None]:
    """Fetch the journals that other machines have stored, and store those of this one in the end.

    The writer has claimed its missions. Stored are its own journals, and those that other shards of these
    missions have left here and nobody has written meanwhile; also in error. `tell` hears of other machines
    that are at work on the same output, and of a journal that could not be stored. StoreError, or OutputError
    where the store denies what publishing will need. Nothing of that for an output on this machine.
    """
    if isinstance(output.output_dir, Path):
        yield
        return
    began, store = time.time(), output.output_dir
    notes = RunNotes(store, _origin(output.work_dir), writer)
    fetch_journals(output)
    with output_errors(store):
        _require_writable(store)
    try:
        with output_errors(store):
            notes.leave(tell)
        yield
    finally:
        journals = output.work_dir / _JOURNAL
        try:
            for mission in writer.missions:
                for source in _to_be_stored(child_path(journals, mission), writer.shard, began):
                    _store(source, store / "work" / _JOURNAL / mission, output.work_dir)
            notes.remove()
        except (OSError, OutputError, JournalError) as error:
            # What ended the shard must be seen, and this machine has the journal.
            cause = getattr(error, "strerror", None) or error
            tell(
                f"the journal of shard {writer.shard} could not be stored in {store}: {cause}; it stays in "
                f"{journals}, and is stored when the next run of that mission here ends"
            )


def fetch_journals(output: OutputSettings) -> None:
    """Fetch what is stored of an output's journals and differs here. Raises StoreError, OutputError."""
    if isinstance(output.output_dir, Path):
        return
    origin, stored = _origin(output.work_dir), output.output_dir / "work" / _JOURNAL
    try:
        for key, state in _stored_below(stored):
            target = _place_here(key, origin, output.work_dir / _JOURNAL)
            if target is not None and _differs(target, state):
                # One that somebody has just removed costs no other.
                with suppress(FileNotFoundError):
                    _fetch(stored / key, target)
    except OSError as error:
        raise StoreError(
            f"journals in {stored} cannot be fetched: {error.strerror}; run again once the store can be "
            "reached"
        ) from error


def journal_folders(output: OutputSettings, missions: Iterable[str]) -> Iterator[Place]:
    """Where the journals of missions are, here and in the store."""
    for mission in missions:
        yield child_path(output.work_dir / _JOURNAL, mission)
        if not isinstance(output.output_dir, Path):
            yield child_path(output.output_dir / "work" / _JOURNAL, mission)


def _stored_below(folder: UPath) -> list[tuple[str, objects.ObjectState]]:
    try:
        return list(objects.everything_below(folder))
    except FileNotFoundError:
        # No bucket yet: there is nothing to go on from.
        return []


def _place_here(key: str, origin: str, journal: Path) -> Path | None:
    """Where a stored journal lies on this machine; None for one that is kept here, and for other objects."""
    mission, _, name = key.partition("/")
    parts = name.split(".")
    if "/" in name or len(parts) != 3 or parts[2] != "jsonl" or not mission:
        return None
    shard, stored_by, _ = parts
    folder = child_path(journal, mission)
    if stored_by != origin:
        return child_path(folder, name)
    own = child_path(folder, f"{shard}.jsonl")
    return None if own.exists() else own


def _differs(target: Path, state: objects.ObjectState) -> bool:
    # A journal only grows, or loses lines that no longer count: its size tells it from an older one.
    with output_errors(target):
        return not target.exists() or target.stat().st_size != state.size


def _fetch(place: UPath, target: Path) -> None:
    with fetched(place, target.parent) as (temporary, _):
        if not _is_own(target):
            temporary.replace(target)
            return
        # A run may have begun to write it meanwhile, which must not lose the file it has open.
        with suppress(FileExistsError):
            os.link(temporary, target)


def _is_own(journal: Path) -> bool:
    """Whether a journal is of this work folder: that of another has its origin in its name."""
    return "." not in journal.stem


def _origin(work_dir: Path) -> str:
    """A name that no other work folder has, given once."""
    path = ensure_folder(work_dir) / _ORIGIN
    temporary = work_dir / temporary_name()
    with output_errors(path):
        if not path.exists():
            temporary.write_text(secrets.token_hex(8), "ascii")
            try:
                os.link(temporary, path)
            except FileExistsError:
                # Another process was faster.
                pass
            finally:
                temporary.unlink()
        return path.read_text("ascii")


def _require_writable(store: UPath) -> None:
    """Find out what would fail after hours of work. Raises OSError."""
    probe = store / temporary_name()
    objects.put_bytes(probe, b"")
    objects.remove(probe)


def _to_be_stored(folder: Path, shard: str, began: float) -> list[Path]:
    """The journal of that shard, and those of others here that nobody has written since then."""
    writers = folder / f"{shard}.jsonl"
    found = [path for path in sorted(folder.glob("*.jsonl")) if _is_own(path)]
    return [path for path in found if path == writers or path.stat().st_mtime < began]


def _store(journal: Path, folder: UPath, work_dir: Path) -> None:
    """Store a journal that the store does not have. Raises OSError, OutputError, JournalError."""
    place = folder / f"{journal.stem}.{_origin(work_dir)}.jsonl"
    size = _stored_size(place)
    if size == journal.stat().st_size:
        return
    # What is damaged here raises here, and takes the place of nothing.
    keys = answer_index.AnswerIndex((line.compact_key, _ANYWHERE) for line in intact_lines(journal))
    if size is not None and not _all_known(place, keys, journal.parent):
        # Of two work folders one is a copy of the other: this one takes an origin of its own.
        (work_dir / _ORIGIN).unlink(missing_ok=True)
        place = folder / f"{journal.stem}.{_origin(work_dir)}.jsonl"
    put_whole(journal, place)


def _stored_size(place: UPath) -> int | None:
    try:
        return objects.look(place).size
    except FileNotFoundError:
        return None


def _all_known(place: UPath, keys: answer_index.AnswerIndex, folder: Path) -> bool:
    """Whether all that a stored journal tells is among the keys; the folder is for fetching it."""
    with fetched(place, folder) as (stored, _):
        try:
            return all(line.compact_key in keys for line in intact_lines(stored))
        except JournalError:
            # What is damaged there helps nobody.
            return True

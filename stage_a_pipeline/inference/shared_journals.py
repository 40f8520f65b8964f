"""Journals beside an output that is an object store: fetched before a shard, stored after it.

A journal is written on this machine. Its copy in the store, `work/journal/<mission>/<shard>.<origin>.jsonl`
below the output, has the name of this work folder in its own: nobody writes over another's, and whoever
comes later reads them all.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from upath import UPath

from stage_a_pipeline.errors import StoreError
from stage_a_pipeline.settings import OutputSettings
from stage_a_pipeline.storage import Holder, child_path, ensure_folder, objects, output_errors, this_process
from stage_a_pipeline.storage.fetched import fetch_file
from stage_a_pipeline.storage.staged_objects import put_whole
from stage_a_pipeline.storage.temporary import temporary_name

_ORIGIN: Final = "origin"
_JOURNAL: Final = "journal"
_RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes journals: those called `shard` of these missions, in a run and for a purpose."""

    shard: str
    missions: Sequence[str]
    run_id: str
    purpose: str


@contextmanager
def shared_journals(output: OutputSettings, writer: Writer, tell: Callable[[str], None]) -> Iterator[None]:
    """Fetch the journals that other machines have stored, and store the writer's in the end, also in error.

    `tell` hears of other machines that are at work on the same output, and of a journal that could not be
    stored. StoreError, or OutputError where the store denies what publishing will need. Nothing of that
    for an output on this machine.
    """
    if isinstance(output.output_dir, Path):
        yield
        return
    store, origin = output.output_dir, _origin(output.work_dir)
    fetch_journals(output)
    with output_errors(store):
        _require_writable(store)
        notes = _announce(store, origin, writer, tell)
    try:
        yield
    finally:
        _try_to_store(output.work_dir / _JOURNAL, store, origin, writer, notes, tell)


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
                    # It may have grown since it was listed.
                    fetch_file(stored / key, target, objects.look(stored / key)).close()
    except OSError as error:
        raise StoreError(
            f"journals in {stored} cannot be fetched: {error.strerror}; run again once the store can be "
            "reached"
        ) from error


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
    return not target.exists() or target.stat().st_size != state.size


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


def _announce(store: UPath, origin: str, writer: Writer, tell: Callable[[str], None]) -> list[UPath]:
    """Leave a note for other machines per mission, and tell of theirs."""
    notes = []
    for mission in writer.missions:
        for place in _notes_of_others(store, origin, mission):
            tell(
                f"the output of mission {mission} may be written by {_read_note(place)} as well; both would "
                f"ask the same photos, and who publishes last wins. If that run is dead, delete {place}"
            )
        note = store / "work" / _RUNNING / f"{mission}.{writer.shard}.{origin}.json"
        holder = this_process(writer.purpose, writer.run_id)
        objects.put_bytes(note, json.dumps(asdict(holder)).encode())
        notes.append(note)
    return notes


def _notes_of_others(store: UPath, origin: str, mission: str) -> Iterator[UPath]:
    try:
        names = [name for name, _ in objects.children(store / "work" / _RUNNING)]
    except FileNotFoundError:
        return
    for name in sorted(names):
        note = name.rsplit(".", 3)
        if note[0] == mission and note[2:] != [origin, "json"]:
            yield store / "work" / _RUNNING / name


def _read_note(place: UPath) -> str:
    try:
        return str(Holder(**json.loads(objects.get_bytes(place))))
    except (OSError, ValueError, TypeError):
        # It is for people, and its run may just have ended.
        return "a run on another machine"


def _try_to_store(
    journals: Path,
    store: UPath,
    origin: str,
    writer: Writer,
    notes: list[UPath],
    tell: Callable[[str], None],
) -> None:
    try:
        for mission in writer.missions:
            source = child_path(journals, mission) / f"{writer.shard}.jsonl"
            if source.exists():
                _store(source, store / "work" / _JOURNAL / mission / f"{writer.shard}.{origin}.jsonl")
        for note in notes:
            objects.remove(note)
    except OSError as error:
        # What ended the shard must be seen, and this machine has the journal.
        tell(
            f"the journal of shard {writer.shard} could not be stored in {store}: {error.strerror or error}; "
            f"it stays in {journals}, and is stored when the next run here ends"
        )


def _store(source: Path, place: UPath) -> None:
    try:
        if objects.look(place).size == source.stat().st_size:
            return
    except FileNotFoundError:
        pass
    put_whole(source, place)

"""The folder of an export: it appears whole, and replaces nothing but an export."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import LockedError, OutputError
from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.storage import ensure_folder, output_errors, unfinished_folder
from stage_a_pipeline.storage.failures import output_error

EXPORT_NAME: Final = "export.json"
"""What an export tells of itself; written last, so that a folder with it is complete."""

_UNFINISHED: Final = ".stage-a-unfinished"


@contextmanager
def appearing_export(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to fill, whose files stand in `folder` when the block ends; `EXPORT_NAME` comes last.

    When the block raises, `folder` stays as it was. Raises OutputError for a folder that holds anything, or
    with `replace` anything that no earlier export has listed; LockedError while another export writes it.
    """
    ensure_folder(folder)
    with _locked(folder):
        old = _old_entries(folder, replace=replace)
        with unfinished_folder(folder / _UNFINISHED) as unfinished:
            fresh = unfinished / "new"
            with output_errors(folder):
                fresh.mkdir()
            yield fresh
            with output_errors(folder):
                (unfinished / "old").mkdir()
                for name in old:
                    (folder / name).rename(unfinished / "old" / name)
                for path in sorted(fresh.iterdir(), key=lambda path: (path.name == EXPORT_NAME, path.name)):
                    path.rename(folder / path.name)


def _old_entries(folder: Path, *, replace: bool) -> list[str]:
    """What has to go, `EXPORT_NAME` first: without it, no folder counts as complete."""
    with output_errors(folder):
        held = sorted(path.name for path in folder.iterdir() if path.name != _UNFINISHED)
    if not held:
        return []
    listed = _listed(folder / EXPORT_NAME)
    if listed is None:
        raise OutputError(
            f"folder {folder} holds {harmless(held[0])!r} and is no export; give an empty or new folder"
        )
    if not replace:
        raise OutputError(
            f"folder {folder} holds an export already; replace it with --replace, or give another"
        )
    foreign = [name for name in held if name not in listed]
    if foreign:
        raise OutputError(
            f"folder {folder} holds {harmless(foreign[0])!r}, which no export wrote; move it away, or give "
            "another folder"
        )
    return sorted(held, key=lambda name: (name != EXPORT_NAME, name))


def _listed(path: Path) -> frozenset[str] | None:
    """The entries of a folder that the export in it lists; None where there is no export."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove the folder, or give another") from error
    entries = document.get("entries") if isinstance(document, dict) else None
    return frozenset(map(str, entries)) if isinstance(entries, list) else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder itself is locked: it ends with its holder, and leaves no file behind."""
    with output_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise LockedError(
                    f"another export is writing to {folder}; wait for it, or give another folder"
                ) from None
            raise output_error(folder, error) from error
        yield
    finally:
        os.close(descriptor)

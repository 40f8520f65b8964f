"""Objects as files of this machine: whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.files import ensure_folder
from stage_a_pipeline.storage.temporary import temporary_name


@contextmanager
def fetched(
    place: UPath, folder: Path, seen: objects.ObjectState | None = None
) -> Iterator[tuple[Path, objects.ObjectState]]:
    """A file in the folder that holds an object, and that one's state; to be put in its place in the block.

    `seen` as for `objects.download`. Raises OSError for what is wrong with the object, OutputError for what
    is wrong with this machine's disk, in the block too.
    """
    temporary = ensure_folder(folder) / temporary_name()
    try:
        state = objects.download(place, temporary, seen)
        with output_errors(folder):
            yield temporary, state
    finally:
        with output_errors(folder):
            temporary.unlink(missing_ok=True)

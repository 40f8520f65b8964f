"""Photos copied beside an export, under numbers: names of tickets and sites stay in the rows."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Final

from stage_a_pipeline.exports.photos import DeliveredPhoto
from stage_a_pipeline.storage import ensure_folder, output_errors

_PER_FOLDER: Final = 1_000


def copy_photo(folder: Path, number: int, photo: DeliveredPhoto, data: bytes) -> str:
    """Write the bytes as the photo of that number; returns its path below `folder`. Raises OutputError."""
    suffix = PurePath(photo.image).suffix.lower()
    name = f"photos/{number // _PER_FOLDER:04d}/{number:08d}{suffix}"
    path = folder / name
    if number % _PER_FOLDER == 0 or not path.parent.is_dir():
        ensure_folder(path.parent)
    with output_errors(path):
        # No rename and no flush of its own: the folder that it stands in appears as a whole.
        path.write_bytes(data)
    return name

"""Two Parquet files: a row per photo, and a row per written group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.exports.columns import GROUP_SCHEMA, PHOTO, group_row, photo_row, photo_schema
from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.export import Writer
from stage_a_pipeline.exports.photo_bytes import Images, PhotoWithBytes
from stage_a_pipeline.exports.photos import DeliveredPhoto
from stage_a_pipeline.exports.table_writer import row_writer

PHOTOS_NAME: Final = "photos.parquet"
GROUPS_NAME: Final = "groups.parquet"


def parquet_writer(images: Images) -> Writer:
    """Writes the photos' rows, with the files' bytes where images are to be embedded."""

    def write(folder: Path, photos: Iterator[PhotoWithBytes], deliveries: Sequence[Delivery]) -> None:  # noqa: ARG001
        with (
            row_writer(folder / PHOTOS_NAME, photo_schema(images)) as rows,
            row_writer(folder / GROUPS_NAME, GROUP_SCHEMA) as groups,
        ):
            for _, same in groupby(photos, key=lambda pair: pair[0].group_number):
                members: list[DeliveredPhoto] = []
                for photo, data in same:
                    rows.write(photo_row(photo) | embedded_photo(photo, data, images), size=len(data or b""))
                    members.append(photo)
                if members[0].summary is not None:
                    groups.write(group_row(members))

    return write


def embedded_photo(photo: DeliveredPhoto, data: bytes | None, images: Images) -> dict[str, Any]:
    """The column of the photo itself, where there is one."""
    if images != "embed":
        return {}
    return {PHOTO: None if data is None else {"bytes": data, "path": photo.image}}

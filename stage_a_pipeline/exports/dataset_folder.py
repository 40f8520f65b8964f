"""A folder that `datasets.load_dataset` opens as it is: Parquet, a card, and the photos if asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from stage_a_pipeline.exports.columns import PHOTO_FILE, photo_row, photo_schema
from stage_a_pipeline.exports.copied_photos import copy_photo
from stage_a_pipeline.exports.dataset_card import CARD_NAME, Card, write_card
from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.export import Writer
from stage_a_pipeline.exports.parquet import embedded_photo
from stage_a_pipeline.exports.photo_bytes import Images, PhotoWithBytes
from stage_a_pipeline.exports.table_writer import RowWriter, row_writer
from stage_a_pipeline.storage import ensure_folder

DATA_NAME: Final = "data"
_MAX_FILE_BYTES: Final = 500 << 20
"""Of photos in one file, as the Hub recommends."""


@dataclass(frozen=True, slots=True)
class _Written:
    """Rows of photos, and the bytes that they take uncompressed."""

    rows: int
    bytes: int


class _Shards:
    """Writes rows into one file after the other, each with at most so many bytes of photos."""

    def __init__(self, folder: Path, schema: pa.Schema, stack: ExitStack) -> None:
        self._folder = folder
        self._schema = schema
        self._stack = stack
        self._writers: list[RowWriter] = []
        self._rows = 0
        self._bytes = 0
        # Without a photo there is a file all the same: a dataset of no rows is one.
        self._begin_file()

    def write(self, row: dict[str, object], *, size: int) -> None:
        """Add a row, which holds `size` bytes of a photo. Raises OutputError."""
        if self._bytes and self._bytes + size > _MAX_FILE_BYTES:
            self._begin_file()
        self._writers[-1].write(row, size=size)
        self._bytes += size
        self._rows += 1

    def close(self) -> _Written:
        """Complete the last file, and tell what is in all of them. Raises OutputError."""
        self._stack.close()
        return _Written(self._rows, sum(writer.written_bytes for writer in self._writers))

    def _begin_file(self) -> None:
        self._stack.close()
        path = self._folder / f"photos-{len(self._writers):05d}.parquet"
        self._writers.append(self._stack.enter_context(row_writer(path, self._schema)))
        self._bytes = 0


def dataset_writer(images: Images) -> Writer:
    """Writes the photos' rows and the card. The card comes last and says how many there are."""

    def write(folder: Path, photos: Iterator[PhotoWithBytes], deliveries: Sequence[Delivery]) -> None:
        data = ensure_folder(folder / DATA_NAME)
        schema = photo_schema(images)
        written = _write_copied(data, photos) if images == "copy" else _write_shards(data, photos, images)
        card = Card(schema, written.rows, written.bytes, images, tuple(deliveries))
        write_card(folder / CARD_NAME, card)

    return write


def _write_shards(folder: Path, photos: Iterator[PhotoWithBytes], images: Images) -> _Written:
    with ExitStack() as stack:
        shards = _Shards(folder, photo_schema(images), stack)
        for photo, data in photos:
            shards.write(photo_row(photo) | embedded_photo(photo, data, images), size=len(data or b""))
        return shards.close()


def _write_copied(folder: Path, photos: Iterator[PhotoWithBytes]) -> _Written:
    """The photos as files beside `metadata.parquet`, as the image folders of `datasets` are laid out."""
    number = -1
    with row_writer(folder / "metadata.parquet", photo_schema("copy")) as rows:
        for number, (photo, data) in enumerate(photos):
            name = None if data is None else copy_photo(folder, number, photo, data)
            rows.write(photo_row(photo) | {PHOTO_FILE: name})
    return _Written(number + 1, rows.written_bytes)

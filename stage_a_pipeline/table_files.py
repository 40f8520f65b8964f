"""Tables in files, read and written batch by batch, so that a million rows never stand in memory at once."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, Self, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors

BATCH_ROWS: Final = 2048


@runtime_checkable
class Table(Protocol):
    """What stages hand over: a pa.Table, which stands in memory, or a StoredTable, which does not."""

    @property
    def schema(self) -> Any:
        """Columns, and texts about the whole table as its metadata."""

    @property
    def num_rows(self) -> int:
        """How many rows there are, known without reading them."""

    def to_batches(self) -> Iterable[Any]:
        """All rows, some at a time."""

    def replace_schema_metadata(self, metadata: Mapping[str, str]) -> Self:
        """The same rows under other metadata."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTable:
    """A table in a file. It is read anew whenever its batches are asked for."""

    schema: pa.Schema
    num_rows: int
    read_batches: Callable[[Sequence[str] | None], Iterator[pa.RecordBatch]]

    def to_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, some thousand at a time, of all columns or the named ones."""
        return self.read_batches(columns)

    def replace_schema_metadata(self, metadata: Mapping[str, str]) -> StoredTable:
        """The same rows under other metadata."""
        return replace(self, schema=self.schema.with_metadata(metadata))

    def read(self) -> pa.Table:
        """The whole table in memory, for one that is known to be small."""
        return pa.Table.from_batches(self.to_batches(), self.schema.remove_metadata()).cast(self.schema)


def batches_of(table: Table, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a table in batches, of all columns or the named ones."""
    if isinstance(table, StoredTable):
        yield from table.to_batches(columns)
        return
    for batch in table.to_batches():
        yield batch if columns is None else batch.select(list(columns))


def open_parquet(path: Path) -> StoredTable:
    """The table of a Parquet file. FileNotFoundError where there is none."""

    def read(columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, pre_buffer=False) as parquet:
            yield from parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)

    with pq.ParquetFile(path) as parquet:
        return StoredTable(parquet.schema_arrow, parquet.metadata.num_rows, read)


def write_parquet(path: Path, table: Table) -> None:
    """Write a table to a Parquet file, a row group per batch. Raises OutputError."""
    with (
        atomic_write(path, "wb") as file,
        pq.ParquetWriter(file, table.schema, compression="zstd") as parquet,
    ):
        for batch in batches_of(table):
            parquet.write_batch(batch)


def open_arrow(file: Path | BinaryIO) -> StoredTable:
    """The table of an Arrow file."""
    source = str(file) if isinstance(file, Path) else file
    with pa.ipc.open_file(source) as arrow:
        schema = arrow.schema

    def read(columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        chosen = [schema.get_field_index(name) for name in columns or ()]
        options = pa.ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
        with pa.ipc.open_file(source, options=options) as arrow:
            for number in range(arrow.num_record_batches):
                yield arrow.get_batch(number)

    return StoredTable(schema, sum(batch.num_rows for batch in read(schema.names[:1])), read)


def joined(tables: Sequence[StoredTable]) -> StoredTable:
    """The rows of several tables of the same columns, one table after the other."""

    def read(columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        for table in tables:
            yield from table.to_batches(columns)

    return StoredTable(tables[0].schema, sum(table.num_rows for table in tables), read)


def scratch_table(schema: pa.Schema, batches: Iterable[pa.RecordBatch], folder: Path) -> StoredTable:
    """The batches as a table in a file without a name, whose space is free again when nobody holds it.

    `folder` says on which disk. Raises OutputError where that cannot be written.
    """
    with output_errors(ensure_folder(folder)):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the table
    try:
        _write_arrow(file, schema, batches, folder)
        table = open_arrow(file)
    except BaseException:
        # Closing may repeat a failed write, and would hide the error that names the remedy.
        with suppress(OSError):
            file.close()
        raise
    weakref.finalize(table.read_batches, file.close)
    return table


def _write_arrow(file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch], folder: Path) -> None:
    arrow = pa.ipc.new_file(file, schema)
    for batch in batches:
        # Around the write alone: what goes wrong where the batches come from has other causes.
        with output_errors(folder):
            arrow.write_batch(batch)
    with output_errors(folder):
        arrow.close()
        file.flush()

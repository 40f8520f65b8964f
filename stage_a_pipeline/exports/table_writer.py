"""Parquet files that are written row by row, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from stage_a_pipeline.storage import atomic_write

_MAX_ROWS: Final = 2_000
_MAX_BYTES: Final = 32 << 20
"""Of photos in one row group; a reader takes a row group into memory as a whole."""


class RowWriter:
    """Collects rows and writes them as row groups."""

    def __init__(self, parquet: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._parquet = parquet
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0
        self.written_bytes = 0

    def write(self, row: Mapping[str, Any], *, size: int = 0) -> None:
        """Add a row, which holds `size` bytes of a photo. Raises OSError."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= _MAX_ROWS or self._bytes >= _MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected. Raises OSError."""
        if self._rows:
            batch = pa.RecordBatch.from_pylist(self._rows, schema=self._schema)
            self._parquet.write_batch(batch)
            self.written_bytes += batch.nbytes
            self._rows, self._bytes = [], 0


@contextmanager
def row_writer(path: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    """Writes rows of the schema to a Parquet file, which is there when the block ends. Raises OutputError."""
    with (
        atomic_write(path, "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as parquet,
    ):
        rows = RowWriter(parquet, schema)
        yield rows
        rows.flush()

"""Tables in files come back as they were, a batch at a time, and leave nothing behind."""

import gc
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from stage_a_pipeline import table_files
from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.table_files import (
    BATCH_ROWS,
    StoredTable,
    Table,
    batches_of,
    joined,
    open_arrow,
    open_parquet,
    scratch_table,
    write_parquet,
)

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("名", pa.string(), metadata={"description": "x"}),
    ],
    metadata={"mission": "挡风板安装检查"},
)
ROWS = 2 * BATCH_ROWS + 7


def batches():
    for first in range(0, ROWS, BATCH_ROWS):
        numbers = range(first, min(first + BATCH_ROWS, ROWS))
        yield pa.RecordBatch.from_pydict({"number": list(numbers), "名": [str(n) for n in numbers]}, SCHEMA)


WHOLE = pa.Table.from_batches(batches(), SCHEMA)


@pytest.fixture(params=["scratch", "parquet", "arrow"])
def stored(request, tmp_path):
    match request.param:
        case "scratch":
            return scratch_table(SCHEMA, batches(), tmp_path / "scratch")
        case "parquet":
            write_parquet(tmp_path / "table.parquet", WHOLE)
            return open_parquet(tmp_path / "table.parquet")
    with pa.OSFile(str(tmp_path / "table.arrow"), "wb") as file, pa.ipc.new_file(file, SCHEMA) as arrow:
        for batch in batches():
            arrow.write_batch(batch)
    return open_arrow(tmp_path / "table.arrow")


def test_a_table_comes_back_as_it_was_and_as_often_as_wanted(stored):
    assert stored.num_rows == ROWS
    assert stored.schema.equals(SCHEMA, check_metadata=False)
    assert stored.schema.metadata[b"mission"].decode() == "挡风板安装检查"
    for _ in range(2):
        assert stored.read().replace_schema_metadata(SCHEMA.metadata).equals(WHOLE)
        assert max(batch.num_rows for batch in stored.to_batches()) == BATCH_ROWS


def test_single_columns_can_be_read(stored):
    for table in (stored, WHOLE):
        names = [name for batch in batches_of(table, ["名"]) for name in batch.column("名").to_pylist()]
        assert names == [str(number) for number in range(ROWS)]
        assert all(batch.schema.names == ["名"] for batch in batches_of(table, ["名"]))


def test_metadata_can_be_replaced_and_is_stored_with_the_table(stored, tmp_path):
    write_parquet(tmp_path / "other.parquet", stored.replace_schema_metadata({"a": "b"}))
    assert open_parquet(tmp_path / "other.parquet").schema.metadata == {b"a": b"b"}


def test_both_kinds_are_tables(stored):
    assert isinstance(stored, Table)
    assert isinstance(WHOLE, Table)


def test_joined_tables_are_read_one_after_the_other(stored):
    both = joined([stored, stored])
    assert both.num_rows == 2 * ROWS
    assert both.read().column("number").to_pylist() == 2 * list(range(ROWS))


def test_an_empty_table_is_one_too(tmp_path):
    empty = scratch_table(SCHEMA, [], tmp_path)
    write_parquet(tmp_path / "empty.parquet", empty)
    for table in (empty, open_parquet(tmp_path / "empty.parquet")):
        assert table.num_rows == 0
        assert table.read().schema.names == SCHEMA.names


def test_a_scratch_table_has_no_name_and_is_gone_with_its_last_holder(tmp_path):
    table: StoredTable = scratch_table(SCHEMA, batches(), tmp_path)
    marked = table.replace_schema_metadata({"a": "b"})
    assert list(tmp_path.iterdir()) == []
    del table
    gc.collect()
    assert marked.read().num_rows == ROWS
    held = scratch_files(tmp_path)
    del marked
    gc.collect()
    assert (held, scratch_files(tmp_path)) == (1, 0)


def scratch_files(folder):
    """How many files below the folder this process holds open."""
    held = 0
    for link in Path("/proc/self/fd").iterdir():
        # The listing itself is open while it is read, and closed when its link is.
        with suppress(FileNotFoundError):
            held += link.readlink().is_relative_to(folder)
    return held


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        scratch_table(SCHEMA, batches(), tmp_path / "file" / "scratch")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    full = partial(Path.open, Path("/dev/full"), "r+b")
    monkeypatch.setattr(table_files.tempfile, "TemporaryFile", lambda dir: full())
    with pytest.raises(OutputError, match=f"{tmp_path} cannot be written: No space left.*free some space"):
        scratch_table(SCHEMA, batches(), tmp_path)


def test_a_missing_table_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_parquet(tmp_path / "nothing.parquet")

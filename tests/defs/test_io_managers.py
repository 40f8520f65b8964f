import dagster as dg
import pyarrow as pa
import pytest

from stage_a_pipeline.defs.by_mission import Tables
from stage_a_pipeline.defs.column_schemas import column_schema
from stage_a_pipeline.defs.io_managers import ParquetStore
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.table_schemas import GROUPS
from stage_a_pipeline.tables import table_metadata, with_metadata
from tests.conftest import BRACKETS

TABLE = with_metadata(pa.table({"编号": ["甲", "乙"]}), {"discovered": "2"})


@pytest.fixture
def stored(tmp_path):
    partitions = dg.StaticPartitionsDefinition([BRACKETS])

    @dg.asset(partitions_def=partitions)
    def numbers() -> Tables:
        return {BRACKETS: TABLE}

    @dg.asset(partitions_def=partitions)
    def read_back(numbers: Tables) -> Tables:
        assert list(numbers) == [BRACKETS]
        assert numbers[BRACKETS].num_rows == 2
        assert numbers[BRACKETS].read().equals(TABLE)
        assert table_metadata(numbers[BRACKETS]) == {"discovered": "2"}
        return numbers

    store = ParquetStore(settings=SettingsResource(output={"output_dir": str(tmp_path)}), folder="tables")
    result = dg.materialize([numbers, read_back], partition_key=BRACKETS, resources={"io_manager": store})
    assert result.success
    return tmp_path, result


def test_a_table_comes_back_as_it_was_under_a_chinese_partition_with_brackets(stored):
    folder, _ = stored
    assert (folder / "work" / "tables" / "numbers" / f"{BRACKETS}.parquet").is_file()


def test_nothing_temporary_is_left(stored):
    folder, _ = stored
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".parquet"}


def test_folder_and_columns_stand_in_the_metadata(stored):
    folder, result = stored
    metadata = result.asset_materializations_for_node("numbers")[0].metadata
    assert metadata["folder"].value == str(folder / "work" / "tables" / "numbers")
    assert [column.name for column in metadata["dagster/column_schema"].value.columns] == ["编号"]


def test_columns_carry_their_descriptions():
    columns = {column.name: column for column in column_schema(GROUPS).columns}
    assert columns["images"].description == "file names in natural order"
    assert columns["images"].constraints.nullable is False


def test_several_partitions_come_back_in_their_order_whatever_process_reads_them(tmp_path):
    """A set has another order in each process of a run, which took that for other groups."""
    keys = [f"mission {number}" for number in (3, 1, 4, 5, 9, 2, 6, 8)]
    partitions = dg.StaticPartitionsDefinition(keys)
    together = dg.BackfillPolicy.single_run()
    seen = []

    @dg.asset(partitions_def=partitions, backfill_policy=together)
    def numbers() -> Tables:
        return dict.fromkeys(keys, TABLE)

    @dg.asset(partitions_def=partitions, backfill_policy=together)
    def read_back(numbers: Tables) -> Tables:
        seen.extend(numbers)
        return numbers

    store = ParquetStore(settings=SettingsResource(output={"output_dir": str(tmp_path)}), folder="tables")
    span = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    assert dg.materialize([numbers, read_back], tags=span, resources={"io_manager": store}).success
    assert seen == keys

"""Parquet between assets: one file per asset and partition, complete or absent."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.storage import atomic_write, ensure_folder


class ParquetIOManager(dg.UPathIOManager):
    """Stores pyarrow tables below a folder; the schema's metadata comes back with them."""

    extension = ".parquet"

    def make_directory(self, path: UPath) -> None:
        """See UPathIOManager. A folder that cannot be made is an OutputError with its remedy."""
        ensure_folder(Path(str(path)))

    def dump_to_path(self, context: dg.OutputContext, obj: pa.Table, path: UPath) -> None:
        """See UPathIOManager."""
        with atomic_write(Path(str(path)), "wb") as file:
            pq.write_table(obj, file, compression="zstd")

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pa.Table:
        """See UPathIOManager."""
        return pq.read_table(str(path))

    def get_metadata(self, context: dg.OutputContext, obj: pa.Table) -> dict[str, Any]:
        """Row count and columns, as the catalogue of the UI shows them."""
        return {"dagster/row_count": obj.num_rows, "dagster/column_schema": column_schema(obj.schema)}


class ParquetStore(dg.ConfigurableIOManagerFactory[ParquetIOManager]):
    """Parquet files in `folder` of the output folder's `work`."""

    settings: dg.ResourceDependency[SettingsResource]
    folder: str

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetIOManager:
        """See ConfigurableIOManagerFactory."""
        return ParquetIOManager(base_path=UPath(self.settings.load().output.work_dir / self.folder))


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema in Dagster's terms, with the description of each column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                type=str(field.type),
                description=(field.metadata or {}).get(b"description", b"").decode() or None,
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )

"""Parquet between assets: one file per asset and partition, complete or absent."""

from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from stage_a_pipeline.defs.column_schemas import column_schema
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.errors import InputError
from stage_a_pipeline.storage import ensure_folder
from stage_a_pipeline.table_files import StoredTable, Table, open_parquet, write_parquet


class ParquetIOManager(dg.UPathIOManager):
    """Stores tables below a folder; they come back as StoredTables, with the schema's metadata.

    What a partitioned asset hands over is a table per partition, under its name, also for a single one.
    """

    extension = ".parquet"

    def make_directory(self, path: UPath) -> None:
        """See UPathIOManager. A folder that cannot be made is an OutputError with its remedy."""
        ensure_folder(Path(str(path)))

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """See UPathIOManager, which stores one partition at a time."""
        if not context.has_asset_partitions:
            super().handle_output(context, obj)
            return
        for partition, path in self._get_paths_for_partitions(context).items():
            self.make_directory(path.parent)
            self.dump_to_path(context, obj[partition], path)
        schema = next(iter(obj.values())).schema
        folder = dg.MetadataValue.path(str(path.parent))
        context.add_output_metadata({"folder": folder, "dagster/column_schema": column_schema(schema)})

    def load_input(self, context: dg.InputContext) -> Any:
        """See UPathIOManager."""
        if not (context.has_asset_key and context.has_asset_partitions):
            return super().load_input(context)
        paths = self._get_paths_for_partitions(context)
        # Dagster keeps a run's partitions as a set, which each process goes through in an order of its own.
        known = context.asset_partitions_def.get_partition_keys(dynamic_partitions_store=context.instance)
        return {
            partition: self.load_from_path(context, paths[partition])
            for partition in known
            if partition in paths
        }

    def dump_to_path(self, context: dg.OutputContext, obj: Table, path: UPath) -> None:
        """See UPathIOManager."""
        write_parquet(Path(str(path)), obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> StoredTable:
        """See UPathIOManager. A table that was never made is an InputError that names its asset."""
        try:
            return open_parquet(Path(str(path)))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; materialise {path.parent.name} first") from error

    def get_metadata(self, context: dg.OutputContext, obj: Table) -> dict[str, Any]:
        """Row count and columns, as the catalogue of the UI shows them."""
        return {"dagster/row_count": obj.num_rows, "dagster/column_schema": column_schema(obj.schema)}


class ParquetStore(dg.ConfigurableIOManagerFactory[ParquetIOManager]):
    """Parquet files in `folder` of the output folder's `work`."""

    settings: dg.ResourceDependency[SettingsResource]
    folder: str

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetIOManager:
        """See ConfigurableIOManagerFactory."""
        return ParquetIOManager(base_path=UPath(self.settings.load().output.work_dir / self.folder))

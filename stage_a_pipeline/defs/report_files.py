"""A mission's report from the tables of its run, and what its page in Dagster says of it."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import dagster as dg

from stage_a_pipeline.defs.by_mission import Tables
from stage_a_pipeline.errors import OutputError, StoreError
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.places import absolute
from stage_a_pipeline.report.figures import figures_from
from stage_a_pipeline.report.mission import MissionReport
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.table_files import Table
from stage_a_pipeline.tables import groups_from_table, table_metadata

REPORT: Final = dg.AssetKey("stage_a_report")


def write_report(
    mission: str, groups: Table, cleaned: Table, *, settings: Settings, run_id: str
) -> dict[str, Any]:
    """Write the mission's report; what to say of it. Raises as MissionReport.write."""
    report = MissionReport(mission, settings).write(
        groups_from_table(groups),
        photo_source(settings),
        run_id=run_id,
        figures=figures_from(table_metadata(cleaned)),
    )
    return {
        "report": dg.MetadataValue.path(str(absolute(report.index))),
        "groups": report.groups,
        "photos": report.photos,
        "photos_without_thumbnail": report.photos_without_thumbnail,
    }


def reports_of_published(
    context: dg.AssetExecutionContext,
    published: Iterable[str],
    groups: Tables,
    cleaned: Tables,
    *,
    settings: Settings,
) -> Iterator[dg.AssetMaterialization]:
    """The reports of what was published in a step that fails over other missions, where they are asked for.

    Dagster skips the step of the reports behind it. One that cannot be written is told in the log.
    """
    # Empty for a whole job, which has it.
    selected = context.run.asset_selection
    if selected and REPORT not in selected:
        return
    for mission in published:
        try:
            metadata = write_report(
                mission, groups[mission], cleaned[mission], settings=settings, run_id=context.run.run_id
            )
        except (OutputError, StoreError) as error:
            context.log.warning(f"{mission}: its report stays as it was: {error}")
        else:
            yield dg.AssetMaterialization(REPORT, partition=mission, metadata=metadata)

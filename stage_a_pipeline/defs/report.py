"""stage_a_report: the mission's HTML report, for people who look rather than read."""

from typing import Any

import dagster as dg

from stage_a_pipeline.defs.by_mission import ONE_RUN, Tables, attempt, refuse, sound
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.delivery import stage_a_jsonl
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import mission_partitions
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.places import absolute
from stage_a_pipeline.report.figures import figures_from
from stage_a_pipeline.report.mission import MissionReport
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.table_files import Table
from stage_a_pipeline.tables import groups_from_table, table_metadata


@dg.asset(
    **page("stage_a_report"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
    deps=[stage_a_jsonl],
    # Behind everything that leads to the delivered file, where one process runs all steps.
    op_tags={"dagster/priority": "-1"},
)
def stage_a_report(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    clean_summaries: Tables,
) -> dg.MaterializeResult[None]:
    """The delivered file as pages to look at: an overview, and every group with its photos."""
    loaded = settings.load()

    def write(mission: str) -> dict[str, Any]:
        return _write(
            mission,
            sound(sampled_groups, mission),
            sound(clean_summaries, mission),
            settings=loaded,
            run_id=context.run.run_id,
        )

    written, left_out = attempt(context.partition_keys, write, DiscoveryError)
    if not written:
        refuse(left_out)
    for mission, metadata in written.items():
        context.add_asset_metadata(metadata, partition_key=mission)
    return dg.MaterializeResult()


def _write(mission: str, groups: Table, cleaned: Table, *, settings: Settings, run_id: str) -> dict[str, Any]:
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

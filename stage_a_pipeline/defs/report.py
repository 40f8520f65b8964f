"""stage_a_report: the mission's HTML report, for people who look rather than read."""

from typing import Any

import dagster as dg

from stage_a_pipeline.defs.by_mission import ONE_RUN, Tables, attempt, refuse, sound
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.delivery import stage_a_jsonl
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import mission_partitions
from stage_a_pipeline.defs.report_files import write_report
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.errors import DiscoveryError


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
        return write_report(
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

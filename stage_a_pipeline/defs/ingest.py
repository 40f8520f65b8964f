"""Assets from folders and the workbook: image_groups, sampled_groups, fail_reasons."""

from hashlib import sha256

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.arrivals import short_hash
from stage_a_pipeline.defs.by_mission import ONE_RUN, Made, Tables, make_tables, scratch_folder, sound
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import groups_preview, skipped_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.defs.run_tags import engine_tags, tag_run
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.fail_reasons import load_fail_reasons
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.places import absolute
from stage_a_pipeline.sampling import sample_groups
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.tables import (
    fail_reasons_to_table,
    groups_from_table,
    groups_to_table,
    table_metadata,
    with_metadata,
)


def require_unclaimed(settings: Settings, mission: str, run_id: str) -> None:
    """LockedError while another run works on the mission: its groups must not change under it."""
    with claim_output(settings.output.work_dir / "locks", mission, run_id=run_id, purpose="read groups"):
        pass


@dg.asset(**page("image_groups"), partitions_def=mission_partitions, backfill_policy=ONE_RUN)
def image_groups(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> Tables:
    """The mission's photo groups as they lie in the input root, in discovery order."""
    loaded = settings.load()
    photos = photo_source(loaded)
    tag_run(context, engine_tags(loaded))

    def find(mission: str) -> Made:
        require_unclaimed(loaded, mission, context.run.run_id)
        found = discover_groups(
            loaded.require_input_root(),
            mission,
            missions=MISSIONS,
            allow_external_symlinks=loaded.discovery.allow_external_symlinks,
        )
        for sentence in found.sentences():
            progress.notice(context.log, sentence)
        found.require_groups()
        listing = found.listing_hash()
        metadata = {
            "groups": len(found.groups),
            "photos": sum(len(group.images) for group in found.groups),
            "skipped": len(found.skipped),
            **({"skipped_entries": skipped_preview(found.skipped)} if found.skipped else {}),
            "warnings": len(found.warnings),
            "listing": short_hash(listing),
            "preview": groups_preview(found.groups, photos, covered=loaded.report.covered),
        }
        table = groups_to_table(found.groups, scratch_folder(loaded, context.run.run_id))
        return Made(with_metadata(table, {"listing": short_hash(listing)}), metadata, listing)

    return make_tables(context, find)


@dg.asset(
    **page("sampled_groups"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
)
def sampled_groups(
    context: dg.AssetExecutionContext, settings: SettingsResource, image_groups: Tables
) -> Tables:
    """The pass and fail groups to summarise: all of them, or a reproducible sample per label."""
    loaded = settings.load()
    photos = photo_source(loaded)

    def sample(mission: str) -> Made:
        require_unclaimed(loaded, mission, context.run.run_id)
        discovered = sound(image_groups, mission)
        sampling = loaded.sampling
        sampled = sample_groups(
            groups_from_table(discovered),
            pass_count=sampling.pass_count,
            fail_count=sampling.fail_count,
            seed=sampling.seed,
        )
        sampled.require_groups()
        metadata = {
            **sampled.stats.to_mapping(),
            "photos": sum(len(group.images) for group in sampled.groups),
            "preview": groups_preview(sampled.groups, photos, covered=loaded.report.covered),
        }
        table = groups_to_table(sampled.groups, scratch_folder(loaded, context.run.run_id))
        told = {
            "discovered": str(discovered.num_rows),
            # Of a table that an earlier version has made, it is not known.
            "listing": table_metadata(discovered).get("listing", ""),
        }
        return Made(with_metadata(table, told), metadata)

    return make_tables(context, sample)


# `dagster asset materialize --partition-range` asks for the policy of every selected asset.
@dg.asset(**page("fail_reasons"), backfill_policy=ONE_RUN)
def fail_reasons(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.Output[pa.Table]:
    """The reviewers' reasons by ticket and mission, from the workbook, if one is configured."""
    configured = settings.load().fail_reasons
    if configured.workbook is None:
        context.log.info("no workbook is configured (STAGE_A_WORKBOOK): records pass without fail reasons")
        nothing = fail_reasons_to_table({})
        return dg.Output(nothing, metadata={"workbook": "none configured"}, data_version=_version(nothing))
    reasons = load_fail_reasons(configured.workbook, configured, missions=MISSIONS)
    for warning in reasons.warnings:
        progress.notice(context.log, warning)
    table = with_metadata(fail_reasons_to_table(reasons.by_ticket), {"workbook": str(configured.workbook)})
    return dg.Output(
        table,
        metadata={
            "workbook": dg.MetadataValue.path(str(absolute(configured.workbook))),
            "tickets": len(reasons.by_ticket),
            "rows_read": reasons.rows_read,
            "rows_dropped": dg.MetadataValue.json(reasons.dropped_counts()),
        },
        data_version=_version(table),
    )


def _version(table: pa.Table) -> dg.DataVersion:
    """Of what the rows say: a workbook that was saved anew without a change is the same."""
    return dg.DataVersion(sha256(repr(table.to_pylist()).encode("utf-8", "backslashreplace")).hexdigest())

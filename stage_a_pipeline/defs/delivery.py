"""Assets from outcomes to the delivered file: clean_summaries, enriched_records, stage_a_jsonl."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg

from stage_a_pipeline.defs.by_mission import (
    ONE_RUN,
    AbsentError,
    Made,
    Tables,
    attempt,
    joint_version,
    make_tables,
    refuse,
    scratch_folder,
    sound,
)
from stage_a_pipeline.defs.column_schemas import JSONL_COLUMNS
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import records_preview
from stage_a_pipeline.defs.report_files import reports_of_published
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.delivery import deliver_mission, keep_rejections
from stage_a_pipeline.errors import DiscoveryError, FailureBudgetError, StaleTableError
from stage_a_pipeline.fail_reasons import SHEET_DATASETS, FailReasons, join_fail_reasons
from stage_a_pipeline.inference.assembly import (
    assemble_records,
    check_failure_budget,
    clean_outcomes,
    count_outcomes,
    count_records,
)
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.jsonl import FileDigest, GroupCounts, PhotoCounts, Publication, output_paths
from stage_a_pipeline.places import absolute
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.table_files import Table
from stage_a_pipeline.tables import (
    fail_reasons_from_table,
    groups_from_table,
    outcomes_from_table,
    outcomes_to_table,
    records_from_table,
    records_to_table,
    rejections_from_table,
    require_groups,
    table_metadata,
    with_metadata,
)


@dg.asset(
    **page("clean_summaries"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
)
def clean_summaries(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    stage_a_summaries: Tables,
) -> Tables:
    """Every answer as one canonical line; an answer that cannot be one becomes a rejection."""
    folder = scratch_folder(settings.load(), context.run.run_id)

    def clean(mission: str) -> Made:
        groups = sound(sampled_groups, mission)
        answers = sound(stage_a_summaries, mission)
        outcomes = clean_outcomes(outcomes_from_table(answers, groups))
        table = with_metadata(outcomes_to_table(outcomes, groups, folder), table_metadata(answers))
        counts = count_outcomes(table)
        return Made(table, {"summaries": counts.photos - counts.rejected, "rejected": counts.rejected})

    return make_tables(context, clean)


@dg.asset(
    **page("enriched_records"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
)
def enriched_records(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    clean_summaries: Tables,
    fail_reasons: Table,
) -> Tables:
    """Whole groups, each fail record with the reviewers' reasons where a workbook covers the mission."""
    workbook = table_metadata(fail_reasons).get("workbook")
    if workbook is None:
        context.log.info("no workbook is configured: records pass without fail reasons")
    reasons = FailReasons(fail_reasons_from_table(fail_reasons))
    folder = scratch_folder(settings.load(), context.run.run_id)

    def enrich(mission: str) -> Made:
        groups = sound(sampled_groups, mission)
        cleaned = sound(clean_summaries, mission)
        records = assemble_records(groups_from_table(groups), outcomes_from_table(cleaned, groups))
        dataset = MISSIONS[mission].dataset
        if workbook is not None and dataset in SHEET_DATASETS:
            records = join_fail_reasons(records, reasons)
        elif workbook is not None:
            context.log.info(f"the workbook does not cover {dataset} missions: records pass as they are")
        table = with_metadata(records_to_table(records, groups, folder), table_metadata(cleaned))
        metadata = {
            "records": table.num_rows,
            "with_fail_reasons": count_records(table).with_fail_reasons,
            "first_records": records_preview(records_from_table(table)),
        }
        return Made(table, metadata)

    return make_tables(context, enrich)


@dg.asset(
    **page("stage_a_jsonl"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
)
def stage_a_jsonl(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    clean_summaries: Tables,
    enriched_records: Tables,
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult[None]]:
    """The delivered files: canonical JSONL, rejected lines and manifest, complete or untouched."""
    loaded = settings.load()
    published, left_out = attempt(
        context.partition_keys,
        lambda mission: _publish(
            mission,
            sound(sampled_groups, mission),
            sound(clean_summaries, mission),
            sound(enriched_records, mission),
            settings=loaded,
            run_id=context.run.run_id,
        ),
        FailureBudgetError,
        DiscoveryError,
    )
    metadata = {
        mission: _published_metadata(mission, one, sampled_groups[mission], loaded)
        for mission, one in published.items()
    }
    if published:
        absent = {mission for mission, error in left_out.items() if isinstance(error, AbsentError)}
        metadata |= {mission: {"absent": str(left_out.pop(mission))} for mission in absent}
    if left_out:
        # The step fails, but what was published is told as such, mission by mission.
        for mission in published:
            yield dg.AssetMaterialization(context.asset_key, partition=mission, metadata=metadata[mission])
        yield from reports_of_published(context, published, sampled_groups, clean_summaries, settings=loaded)
        refuse(left_out, published=list(published))
    for mission, told in metadata.items():
        context.add_asset_metadata(told, partition_key=mission)
    digests = [_digest(mission, one, loaded).sha256 for mission, one in published.items()]
    yield dg.MaterializeResult(data_version=joint_version(digests))


def _publish(
    mission: str, groups: Table, cleaned: Table, enriched: Table, *, settings: Settings, run_id: str
) -> Publication:
    require_groups(cleaned, groups)
    require_groups(enriched, groups)
    plan = RunPlan.from_metadata(table_metadata(enriched))
    if plan != RunPlan.from_metadata(table_metadata(cleaned)):
        raise StaleTableError("enriched_records is of another run than clean_summaries; materialise it again")
    output_dir, fraction = settings.output.output_dir, settings.inference.max_failed_fraction
    rejections = rejections_from_table(cleaned, groups)
    discovered, written = int(table_metadata(groups)["discovered"]), enriched.num_rows
    lost = groups.num_rows - written
    with claim_output(settings.output.work_dir / "locks", mission, run_id=run_id, purpose="publish"):
        try:
            check_failure_budget(groups=groups.num_rows, rejected=lost, max_failed_fraction=fraction)
        except FailureBudgetError as error:
            raise FailureBudgetError(f"{error}; {keep_rejections(output_dir, mission, rejections)}") from None
        return deliver_mission(
            mission,
            records_from_table(enriched),
            rejections,
            groups=GroupCounts(discovered, discovered - groups.num_rows, written, lost),
            photos=_photo_counts(cleaned, enriched),
            plan=plan,
            output_dir=output_dir,
        )


def _photo_counts(cleaned: Table, enriched: Table) -> PhotoCounts:
    counts = count_outcomes(cleaned)
    return PhotoCounts(
        sampled=counts.photos,
        summarised=counts.photos - counts.rejected,
        rejected=counts.rejected,
        written=count_records(enriched).photos,
    )


def _digest(mission: str, publication: Publication, settings: Settings) -> FileDigest:
    return publication.manifest.files[output_paths(settings.output.output_dir, mission).jsonl.name]


def _published_metadata(
    mission: str, publication: Publication, sampled: Table, settings: Settings
) -> dict[str, Any]:
    paths = output_paths(settings.output.output_dir, mission)
    jsonl = absolute(paths.jsonl)
    return {
        "dagster/uri": jsonl.as_uri(),
        "dagster/column_schema": JSONL_COLUMNS,
        "listing": table_metadata(sampled).get("listing", ""),
        "jsonl": dg.MetadataValue.path(str(jsonl)),
        "rejected_lines": dg.MetadataValue.path(str(absolute(paths.rejected))),
        "manifest": dg.MetadataValue.path(str(absolute(paths.manifest))),
        "counts": dg.MetadataValue.json(asdict(publication.manifest.counts)),
        "dagster/row_count": _digest(mission, publication, settings).lines,
        "changed_files": len(publication.changed),
    }

"""Assets from outcomes to the delivered file: clean_summaries, enriched_records, stage_a_jsonl."""

from dataclasses import asdict

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import records_preview
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.delivery import deliver_mission, keep_rejections
from stage_a_pipeline.errors import FailureBudgetError, StaleTableError
from stage_a_pipeline.fail_reasons import SHEET_DATASETS, FailReasons, join_fail_reasons
from stage_a_pipeline.inference.assembly import assemble_records, check_failure_budget, clean_outcomes
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.records import Rejection
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.tables import (
    fail_reasons_from_table,
    groups_from_table,
    outcomes_from_table,
    outcomes_to_table,
    records_from_table,
    records_to_table,
    require_groups,
    table_metadata,
    with_metadata,
)

GROUP = "stage_a"


@dg.asset(partitions_def=mission_partitions, group_name=GROUP, code_version="1")
def clean_summaries(
    context: dg.AssetExecutionContext, sampled_groups: pa.Table, stage_a_summaries: pa.Table
) -> pa.Table:
    """Every answer as one canonical line; an answer that cannot be one becomes a rejection."""
    groups = groups_from_table(sampled_groups)
    outcomes = clean_outcomes(outcomes_from_table(stage_a_summaries, groups))
    rejected = sum(isinstance(outcome, Rejection) for outcome in outcomes)
    context.add_output_metadata({"summaries": len(outcomes) - rejected, "rejected": rejected})
    return with_metadata(outcomes_to_table(outcomes, groups), table_metadata(stage_a_summaries))


@dg.asset(partitions_def=mission_partitions, group_name=GROUP, code_version="1")
def enriched_records(
    context: dg.AssetExecutionContext,
    sampled_groups: pa.Table,
    clean_summaries: pa.Table,
    fail_reasons: pa.Table,
) -> pa.Table:
    """Whole groups, each fail record with the reviewers' reasons where a workbook covers the mission."""
    groups = groups_from_table(sampled_groups)
    records = assemble_records(groups, outcomes_from_table(clean_summaries, groups))
    mission = MISSIONS[context.partition_key]
    workbook = table_metadata(fail_reasons).get("workbook")
    if workbook is None:
        context.log.info("no workbook is configured: records pass without fail reasons")
    elif mission.dataset not in SHEET_DATASETS:
        context.log.info(f"the workbook does not cover {mission.dataset} missions: records pass as they are")
    else:
        records = join_fail_reasons(records, FailReasons(fail_reasons_from_table(fail_reasons)))
    with_reasons = sum(bool(record.fail_reasons) for record in records)
    context.add_output_metadata(
        {
            "records": len(records),
            "with_fail_reasons": with_reasons,
            "first_records": records_preview(records),
        }
    )
    return with_metadata(records_to_table(records, groups), table_metadata(clean_summaries))


@dg.asset(partitions_def=mission_partitions, group_name=GROUP, kinds={"json"}, code_version="1")
def stage_a_jsonl(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: pa.Table,
    clean_summaries: pa.Table,
    enriched_records: pa.Table,
) -> dg.MaterializeResult[None]:
    """The delivered files: canonical JSONL, rejected lines and manifest, complete or untouched."""
    loaded = settings.load()
    mission, output_dir = context.partition_key, loaded.output.output_dir
    groups = groups_from_table(sampled_groups)
    outcomes = outcomes_from_table(clean_summaries, groups)
    require_groups(enriched_records, groups)
    plan = RunPlan.from_metadata(table_metadata(enriched_records))
    if plan != RunPlan.from_metadata(table_metadata(clean_summaries)):
        raise StaleTableError("enriched_records is of another run than clean_summaries; materialise it again")
    records = records_from_table(enriched_records)
    locks = loaded.output.work_dir / "locks"
    with claim_output(locks, mission, run_id=context.run.run_id, purpose="publish"):
        fraction = loaded.inference.max_failed_fraction
        lost = len(groups) - len(records)
        try:
            check_failure_budget(groups=len(groups), rejected=lost, max_failed_fraction=fraction)
        except FailureBudgetError as error:
            raise FailureBudgetError(f"{error}; {keep_rejections(output_dir, mission, outcomes)}") from None
        published = deliver_mission(
            mission,
            records,
            outcomes,
            discovered=int(table_metadata(sampled_groups)["discovered"]),
            sampled=len(groups),
            plan=plan,
            output_dir=output_dir,
        )
    paths = output_paths(output_dir, mission)
    digest = published.manifest.files[paths.jsonl.name]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest.sha256),
        metadata={
            "jsonl": dg.MetadataValue.path(paths.jsonl.absolute()),
            "rejected_lines": dg.MetadataValue.path(paths.rejected.absolute()),
            "manifest": dg.MetadataValue.path(paths.manifest.absolute()),
            "counts": dg.MetadataValue.json(asdict(published.manifest.counts)),
            "dagster/row_count": digest.lines,
            "changed_files": len(published.changed),
        },
    )

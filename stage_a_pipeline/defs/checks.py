"""Asset checks: what must hold before the next asset runs, and what somebody should look at."""

from collections import Counter
from typing import Any

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.delivery import enriched_records, stage_a_jsonl
from stage_a_pipeline.defs.ingest import image_groups, sampled_groups
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.defs.stage_a import stage_a_summaries
from stage_a_pipeline.fail_reasons import SHEET_DATASETS, FailReasons, match_report
from stage_a_pipeline.inference.assembly import rejected_groups
from stage_a_pipeline.jsonl import output_paths, read_manifest, validate_file
from stage_a_pipeline.records import LABELS
from stage_a_pipeline.tables import (
    fail_reasons_from_table,
    groups_from_table,
    outcomes_from_table,
    records_from_table,
    table_metadata,
)

SAMPLED = {"sampled_groups": dg.AssetIn("sampled_groups")}
REASONS = {name: dg.AssetIn(name) for name in ("image_groups", "fail_reasons")}
_SHOWN = 20
_MIN_LABEL_SHARE = 0.1


def _warn_unless(passed: bool, description: str, **metadata: Any) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(passed=passed, severity=severity, description=description, metadata=metadata)


@dg.asset_check(
    asset=stage_a_summaries, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions
)
def every_photo_has_one_outcome(sampled_groups: pa.Table, stage_a_summaries: pa.Table) -> dg.AssetCheckResult:
    """Coverage and order: the photos of the sampled groups, each exactly once, in discovery order."""
    expected = [
        (index, place)
        for index, images in enumerate(sampled_groups.column("images").to_pylist())
        for place in range(1, len(images) + 1)
    ]
    columns = (stage_a_summaries.column(name).to_pylist() for name in ("group_index", "image_index"))
    found = list(zip(*columns, strict=True))
    counts = Counter(found)
    missing = [place for place in expected if place not in counts]
    doubled = [place for place, count in counts.items() if count > 1]
    in_order = found == expected
    return dg.AssetCheckResult(
        passed=in_order,
        description=f"{len(found)} outcomes for {len(expected)} photos"
        + ("" if in_order else f": {len(missing)} missing, {len(doubled)} doubled, or out of order"),
        metadata={"missing": missing[:_SHOWN], "doubled": doubled[:_SHOWN]},
    )


@dg.asset_check(
    asset=enriched_records, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions
)
def records_cover_their_images(sampled_groups: pa.Table, enriched_records: pa.Table) -> dg.AssetCheckResult:
    """Every record is a sampled group with one summary per photo, in discovery order."""
    tickets = iter(groups_from_table(sampled_groups))
    wrong = []
    for record in records_from_table(enriched_records):
        names = next(
            (
                tuple(image.name for image in group.images)
                for group in tickets
                if group.ticket_key == record.ticket_key
            ),
            None,
        )
        if names != record.images or len(record.summaries) != len(record.images):
            wrong.append(record.ticket_key)
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{enriched_records.num_rows} records cover image_1..image_N of their groups in order"
        if not wrong
        else f"{len(wrong)} records do not match the sampled groups in order",
        metadata={"wrong": wrong[:_SHOWN]},
    )


@dg.asset_check(asset=stage_a_jsonl, blocking=True, partitions_def=mission_partitions)
def jsonl_keeps_the_contract(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource
) -> dg.AssetCheckResult:
    """The delivered file, read back from disk, has every line as the data contract says."""
    path = output_paths(settings.load().output.output_dir, context.partition_key).jsonl
    validation = validate_file(path)
    return dg.AssetCheckResult(
        passed=not validation.errors,
        description=f"{validation.lines} lines of {path}"
        + (f": {validation.errors[0]}" if validation.errors else " keep the contract"),
        metadata={"errors": [str(error) for error in validation.errors[:_SHOWN]]},
    )


@dg.asset_check(asset=stage_a_jsonl, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions)
def counts_agree(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, sampled_groups: pa.Table
) -> dg.AssetCheckResult:
    """discovered = sampled out + written + rejected, and the file has as many lines as written."""
    paths = output_paths(settings.load().output.output_dir, context.partition_key)
    counts = read_manifest(paths.manifest).counts
    lines = validate_file(paths.jsonl).lines
    adds_up = counts.discovered == counts.sampled_out + counts.written + counts.rejected
    as_sampled = counts.written + counts.rejected == sampled_groups.num_rows
    return dg.AssetCheckResult(
        passed=adds_up and as_sampled and counts.written == lines,
        description=f"{counts.discovered} discovered = {counts.sampled_out} sampled out "
        f"+ {counts.written} written + {counts.rejected} rejected; {lines} lines",
    )


@dg.asset_check(asset=image_groups, partitions_def=mission_partitions)
def no_duplicate_tickets(image_groups: pa.Table) -> dg.AssetCheckResult:
    """Stage-B keys tickets by group id and label; two groups under one key cannot be told apart."""
    counts = Counter(group.ticket_key for group in groups_from_table(image_groups))
    doubled = sorted(key for key, count in counts.items() if count > 1)
    return _warn_unless(
        not doubled,
        f"{len(doubled)} tickets have more than one group under one label; rename or remove the doubles"
        if doubled
        else "every ticket has one group per label",
        doubled=doubled[:_SHOWN],
    )


@dg.asset_check(asset=sampled_groups, partitions_def=mission_partitions)
def labels_are_balanced(sampled_groups: pa.Table) -> dg.AssetCheckResult:
    """Stage-B learns little from a mission that is nearly all pass or nearly all fail."""
    counts = Counter(sampled_groups.column("label").to_pylist())
    shares = {label: counts[label] / max(1, sampled_groups.num_rows) for label in LABELS}
    return _warn_unless(
        min(shares.values()) >= _MIN_LABEL_SHARE,
        ", ".join(f"{counts[label]} {label} ({shares[label]:.0%})" for label in LABELS),
    )


@dg.asset_check(asset=stage_a_summaries, additional_ins=SAMPLED, partitions_def=mission_partitions)
def few_groups_are_rejected(
    settings: SettingsResource, sampled_groups: pa.Table, stage_a_summaries: pa.Table
) -> dg.AssetCheckResult:
    """Any rejected group is worth a look, long before the run fails for it."""
    groups = groups_from_table(sampled_groups)
    rejected = rejected_groups(outcomes_from_table(stage_a_summaries, groups))
    return _warn_unless(
        rejected == 0,
        f"{rejected} of {len(groups)} groups are rejected; the rejected lines say why"
        if rejected
        else f"all {len(groups)} groups are summarised",
        failed_fraction=rejected / len(groups),
        max_failed_fraction=settings.load().inference.max_failed_fraction,
    )


@dg.asset_check(asset=enriched_records, additional_ins=REASONS, partitions_def=mission_partitions)
def fail_reasons_match(
    context: dg.AssetCheckExecutionContext,
    image_groups: pa.Table,
    enriched_records: pa.Table,
    fail_reasons: pa.Table,
) -> dg.AssetCheckResult:
    """Fail records without a reason in the workbook, and reasons whose group has no photos at all."""
    mission = MISSIONS[context.partition_key]
    if "workbook" not in table_metadata(fail_reasons) or mission.dataset not in SHEET_DATASETS:
        return _warn_unless(True, "no workbook covers this mission")
    reasons = FailReasons(fail_reasons_from_table(fail_reasons))
    report = match_report(records_from_table(enriched_records), reasons, mission.name)
    # A group that was sampled out or rejected is no fault of the workbook.
    discovered = set(image_groups.column("group_id").to_pylist())
    orphans = [group_id for group_id in report.without_group if group_id not in discovered]
    return _warn_unless(
        not report.unmatched and not orphans,
        f"{len(report.matched)} fail records have reasons, {len(report.unmatched)} have none; "
        f"{len(orphans)} reasons have no group; correct the workbook or the folders",
        unmatched=list(report.unmatched[:_SHOWN]),
        without_group=orphans[:_SHOWN],
    )

"""Asset checks: what must hold before the next asset runs, and what somebody should look at."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.by_mission import Tables, judge_missions, sound
from stage_a_pipeline.defs.delivery import enriched_records, stage_a_jsonl
from stage_a_pipeline.defs.ingest import image_groups, sampled_groups
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.defs.stage_a import stage_a_summaries
from stage_a_pipeline.fail_reasons import SHEET_DATASETS, FailReasons, match_report
from stage_a_pipeline.inference.assembly import count_outcomes, group_sizes
from stage_a_pipeline.jsonl import output_paths, read_manifest, validate_file
from stage_a_pipeline.records import LABELS
from stage_a_pipeline.table_files import Table, batches_of
from stage_a_pipeline.tables import (
    fail_reasons_from_table,
    groups_from_table,
    records_from_table,
    require_groups,
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
def every_photo_has_one_outcome(
    context: dg.AssetCheckExecutionContext, sampled_groups: Tables, stage_a_summaries: Tables
) -> dg.AssetCheckResult:
    """Coverage and order: the photos of the sampled groups, each exactly once, in discovery order."""
    return judge_missions(
        context, lambda name: _coverage(sound(sampled_groups, name), sound(stage_a_summaries, name))
    )


def _coverage(sampled: Table, summaries: Table) -> dg.AssetCheckResult:
    expected = _expected_places(sampled)
    found = itertools.chain.from_iterable(map(_places, batches_of(summaries, ["group_index", "image_index"])))
    in_order = all(one == other for one, other in itertools.zip_longest(expected, found))
    missing, doubled = ([], []) if in_order else _what_is_wrong(sampled, summaries)
    photos = int(group_sizes([sampled]).sum())
    return dg.AssetCheckResult(
        passed=in_order,
        description=f"{summaries.num_rows} outcomes for {photos} photos"
        + (
            ""
            if in_order
            else f": {len(missing)} missing, {len(doubled)} doubled, or out of order; materialise "
            "stage_a_summaries again, where finished photos are not asked twice"
        ),
        metadata={"missing": missing[:_SHOWN], "doubled": doubled[:_SHOWN]},
    )


def _expected_places(sampled: Table) -> Iterator[tuple[int, int]]:
    for index, size in enumerate(group_sizes([sampled]).tolist()):
        yield from ((index, place) for place in range(1, size + 1))


def _places(outcomes: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    columns = (outcomes.column(name).to_pylist() for name in ("group_index", "image_index"))
    return zip(*columns, strict=True)


def _what_is_wrong(sampled: Table, summaries: Table) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The places without an outcome, and those with several."""
    batches = batches_of(summaries, ["group_index", "image_index"])
    counts = Counter(place for batch in batches for place in _places(batch))
    missing = [place for place in _expected_places(sampled) if place not in counts]
    return missing, [place for place, count in counts.items() if count > 1]


@dg.asset_check(
    asset=enriched_records, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions
)
def records_cover_their_images(
    context: dg.AssetCheckExecutionContext, sampled_groups: Tables, enriched_records: Tables
) -> dg.AssetCheckResult:
    """Every record is a sampled group with one summary per photo, in discovery order."""
    return judge_missions(
        context, lambda name: _records_fit(sound(sampled_groups, name), sound(enriched_records, name))
    )


def _records_fit(sampled: Table, enriched: Table) -> dg.AssetCheckResult:
    groups = groups_from_table(sampled)
    # Each record is looked for behind the group of the one before. Two groups may share a ticket.
    wrong = [
        record.ticket_key
        for record in records_from_table(enriched)
        if len(record.summaries) != len(record.images)
        or not any(
            group.ticket_key == record.ticket_key
            and tuple(image.name for image in group.images) == record.images
            for group in groups
        )
    ]
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{enriched.num_rows} records cover image_1..image_N of their groups in order"
        if not wrong
        else f"{len(wrong)} records do not match the sampled groups in order; materialise clean_summaries "
        "and enriched_records again, from the same groups",
        metadata={"wrong": wrong[:_SHOWN]},
    )


@dg.asset_check(asset=stage_a_jsonl, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions)
def jsonl_keeps_the_contract(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, sampled_groups: Tables
) -> dg.AssetCheckResult:
    """The delivered file, read back from disk, has every line as the data contract says."""
    output_dir = settings.load().output.output_dir

    def validate(mission: str) -> dg.AssetCheckResult:
        sound(sampled_groups, mission)
        path = output_paths(output_dir, mission).jsonl
        validation = validate_file(path)
        return dg.AssetCheckResult(
            passed=not validation.errors,
            description=f"{validation.lines} lines of {path}"
            + (
                f": {validation.errors[0]}; somebody else has written to the file: materialise stage_a_jsonl "
                "again"
                if validation.errors
                else " keep the contract"
            ),
            metadata={"errors": [str(error) for error in validation.errors[:_SHOWN]]},
        )

    return judge_missions(context, validate)


@dg.asset_check(asset=stage_a_jsonl, blocking=True, additional_ins=SAMPLED, partitions_def=mission_partitions)
def counts_agree(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, sampled_groups: Tables
) -> dg.AssetCheckResult:
    """discovered = sampled out + written + rejected, and the file has as many lines as written."""
    output_dir = settings.load().output.output_dir

    def count(mission: str) -> dg.AssetCheckResult:
        sampled = sound(sampled_groups, mission)
        paths = output_paths(output_dir, mission)
        counts = read_manifest(paths.manifest).counts
        lines = validate_file(paths.jsonl).lines
        adds_up = counts.discovered == counts.sampled_out + counts.written + counts.rejected
        as_sampled = counts.written + counts.rejected == sampled.num_rows
        passed = adds_up and as_sampled and counts.written == lines
        return dg.AssetCheckResult(
            passed=passed,
            description=f"{counts.discovered} discovered = {counts.sampled_out} sampled out "
            f"+ {counts.written} written + {counts.rejected} rejected; {lines} lines"
            + ("" if passed else "; these do not agree: materialise the mission again, from image_groups on"),
        )

    return judge_missions(context, count)


@dg.asset_check(asset=image_groups, partitions_def=mission_partitions)
def no_duplicate_tickets(context: dg.AssetCheckExecutionContext, image_groups: Tables) -> dg.AssetCheckResult:
    """Stage-B keys tickets by group id and label; two groups under one key cannot be told apart."""

    def look(mission: str) -> dg.AssetCheckResult:
        counts = Counter(group.ticket_key for group in groups_from_table(sound(image_groups, mission)))
        doubled = sorted(key for key, count in counts.items() if count > 1)
        return _warn_unless(
            not doubled,
            f"{len(doubled)} tickets have more than one group under one label; rename or remove the doubles"
            if doubled
            else "every ticket has one group per label",
            doubled=doubled[:_SHOWN],
        )

    return judge_missions(context, look)


@dg.asset_check(asset=sampled_groups, partitions_def=mission_partitions)
def labels_are_balanced(
    context: dg.AssetCheckExecutionContext, sampled_groups: Tables
) -> dg.AssetCheckResult:
    """Stage-B learns little from a mission that is nearly all pass or nearly all fail."""

    def look(mission: str) -> dg.AssetCheckResult:
        sampled = sound(sampled_groups, mission)
        counts = Counter(
            label for batch in batches_of(sampled, ["label"]) for label in batch.column("label").to_pylist()
        )
        shares = {label: counts[label] / max(1, sampled.num_rows) for label in LABELS}
        balanced = min(shares.values()) >= _MIN_LABEL_SHARE
        return _warn_unless(
            balanced,
            ", ".join(f"{counts[label]} {label} ({shares[label]:.0%})" for label in LABELS)
            + ("" if balanced else "; add groups of the rarer label, or sample fewer of the other"),
        )

    return judge_missions(context, look)


@dg.asset_check(asset=stage_a_summaries, additional_ins=SAMPLED, partitions_def=mission_partitions)
def few_groups_are_rejected(
    context: dg.AssetCheckExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    stage_a_summaries: Tables,
) -> dg.AssetCheckResult:
    """Any rejected group is worth a look, long before the run fails for it."""
    fraction = settings.load().inference.max_failed_fraction

    def look(mission: str) -> dg.AssetCheckResult:
        groups, answers = sound(sampled_groups, mission), sound(stage_a_summaries, mission)
        require_groups(answers, groups)
        rejected = count_outcomes(answers).groups_rejected
        return _warn_unless(
            rejected == 0,
            f"{rejected} of {groups.num_rows} groups are rejected; {mission}_stage_a.rejected.jsonl names "
            "each photo and why: mend or remove it, and materialise again"
            if rejected
            else f"all {groups.num_rows} groups are summarised",
            failed_fraction=rejected / max(1, groups.num_rows),
            max_failed_fraction=fraction,
        )

    return judge_missions(context, look)


@dg.asset_check(asset=enriched_records, additional_ins=REASONS, partitions_def=mission_partitions)
def fail_reasons_match(
    context: dg.AssetCheckExecutionContext,
    image_groups: Tables,
    enriched_records: Tables,
    fail_reasons: Table,
) -> dg.AssetCheckResult:
    """Fail records without a reason in the workbook, and reasons whose group has no photos at all."""
    reasons = FailReasons(fail_reasons_from_table(fail_reasons))
    has_workbook = "workbook" in table_metadata(fail_reasons)

    def look(mission: str) -> dg.AssetCheckResult:
        if not has_workbook or MISSIONS[mission].dataset not in SHEET_DATASETS:
            return _warn_unless(True, "no workbook covers this mission")
        report = match_report(records_from_table(sound(enriched_records, mission)), reasons, mission)
        # A group that was sampled out or rejected is no fault of the workbook.
        discovered = {group.group_id for group in groups_from_table(sound(image_groups, mission))}
        orphans = [group_id for group_id in report.without_group if group_id not in discovered]
        return _warn_unless(
            not report.unmatched and not orphans,
            f"{len(report.matched)} fail records have reasons, {len(report.unmatched)} have none; "
            f"{len(orphans)} reasons have no group; correct the workbook or the folders",
            unmatched=list(report.unmatched[:_SHOWN]),
            without_group=orphans[:_SHOWN],
        )

    return judge_missions(context, look)

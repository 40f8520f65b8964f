"""stage_a_evaluation: the mission's own answers beside the truth, where a sidecar tells it."""

from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import attributes_preview, picture_preview
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.evaluation.document import Evaluation, EvaluationPaths, evaluation_paths, picture
from stage_a_pipeline.evaluation.mission import evaluate_outcomes, remove_files, write_files
from stage_a_pipeline.evaluation.thresholds import DESCRIPTIONS, Judgement, judge_scores, weakest_first
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.tables import groups_from_table, outcomes_from_table, table_metadata

CHECKS = [
    dg.AssetCheckSpec(
        name, asset="stage_a_evaluation", description=description, partitions_def=mission_partitions
    )
    for name, description in DESCRIPTIONS.items()
]


@dg.asset(
    partitions_def=mission_partitions,
    group_name="evaluation",
    kinds={"json"},
    check_specs=CHECKS,
    # Behind everything that leads to the delivered file, where one process runs all steps.
    op_tags={"dagster/priority": "-1"},
    code_version="1",
)
def stage_a_evaluation(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: pa.Table,
    clean_summaries: pa.Table,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses [None] beside check outputs
    """How well the answers agree with the truth sidecar of the input root; nothing without one."""
    loaded, mission = settings.load(), context.partition_key
    groups = groups_from_table(sampled_groups)
    paths = evaluation_paths(loaded.output.output_dir, mission)
    locks = loaded.output.work_dir / "locks"
    with claim_output(locks, mission, run_id=context.run.run_id, purpose="write the evaluation"):
        # Whatever happens next, no scores of an earlier run stand beside the new answers.
        remove_files(paths)
        found = evaluate_outcomes(
            MISSIONS[mission],
            groups,
            outcomes_from_table(clean_summaries, groups),
            plan=RunPlan.from_metadata(table_metadata(clean_summaries)),
            settings=loaded.evaluation,
        )
        if isinstance(found, Evaluation):
            write_files(paths, found)
    if not isinstance(found, Evaluation):
        context.log.info(found)
        judgements = [Judgement(name, True, found) for name in DESCRIPTIONS]
        return dg.MaterializeResult(
            metadata={"truth": found}, check_results=list(map(_check_result, judgements))
        )
    return dg.MaterializeResult(
        metadata=_metadata(found, paths),
        check_results=[_check_result(one) for one in judge_scores(found, loaded.evaluation)],
    )


def _check_result(judgement: Judgement) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=judgement.name,
        passed=judgement.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=judgement.sentence,
    )


def _metadata(evaluation: Evaluation, paths: EvaluationPaths) -> dict[str, Any]:
    return {
        **{
            name: dg.MetadataValue.null() if share is None else share
            for name, share in asdict(evaluation.scores).items()
        },
        "rejected": len(evaluation.rejected),
        "unmatched": dg.MetadataValue.json(asdict(evaluation.unmatched)),
        "attributes": attributes_preview(weakest_first(evaluation)),
        "confusions": picture_preview(picture(evaluation)),
        "truth": dg.MetadataValue.path(evaluation.subject.truth),
        "scores": dg.MetadataValue.path(paths.document.absolute()),
        "picture": dg.MetadataValue.path(paths.picture.absolute()),
    }

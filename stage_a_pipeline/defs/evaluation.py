"""stage_a_evaluation: the mission's own answers beside the truth, where a sidecar tells it."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

import dagster as dg

from stage_a_pipeline.defs.by_mission import ONE_RUN, Tables, attempt, joint_result, refuse, sound
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import attributes_preview, picture_preview
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.evaluation.document import Evaluation, EvaluationPaths, evaluation_paths, picture
from stage_a_pipeline.evaluation.mission import evaluate_outcomes, remove_files, write_files
from stage_a_pipeline.evaluation.thresholds import (
    ATTRIBUTES,
    DESCRIPTIONS,
    EXACT,
    IRRELEVANT,
    VALID,
    WEAKEST,
    Judgement,
    judge_scores,
    weakest_first,
)
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.places import absolute
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.table_files import Table
from stage_a_pipeline.tables import groups_from_table, outcomes_from_table, table_metadata

_CONFUSIONS: Final = "the picture on the asset's page shows what was said instead"
_REMEDIES: Final = {
    VALID: "set engine.structured_output, or raise engine.max_new_tokens where answers are cut",
    EXACT: f"{_CONFUSIONS}; another checkpoint, or lower evaluation.min_exact_match",
    ATTRIBUTES: f"{_CONFUSIONS}; another checkpoint, or other prompts",
    WEAKEST: f"{_CONFUSIONS}; photos of this attribute are what the checkpoint has to learn",
    IRRELEVANT: "look at photos that were wrongly called 无关图片, or not, in stage_a_summaries",
}
CHECKS = [
    dg.AssetCheckSpec(
        name, asset="stage_a_evaluation", description=description, partitions_def=mission_partitions
    )
    for name, description in DESCRIPTIONS.items()
]


@dg.asset(
    **page("stage_a_evaluation"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
    check_specs=CHECKS,
    # Behind everything that leads to the delivered file, where one process runs all steps.
    op_tags={"dagster/priority": "-1"},
)
def stage_a_evaluation(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    clean_summaries: Tables,
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses [None] beside check outputs
    """How well the answers agree with the truth sidecar of the input root; nothing without one."""
    loaded = settings.load()

    def evaluate(mission: str) -> tuple[dict[str, Any], dict[str, dg.AssetCheckResult]]:
        found = _evaluate(
            mission,
            sound(sampled_groups, mission),
            sound(clean_summaries, mission),
            settings=loaded,
            run_id=context.run.run_id,
        )
        if isinstance(found, Evaluation):
            paths = evaluation_paths(loaded.output.output_dir, mission)
            return _metadata(found, paths), _check_results(judge_scores(found, loaded.evaluation))
        context.log.info(f"{mission}: {found}")
        return {"truth": found}, _check_results(Judgement(name, True, found) for name in DESCRIPTIONS)

    evaluated, left_out = attempt(context.partition_keys, evaluate, DiscoveryError)
    if not evaluated:
        refuse(left_out)
    for mission, error in left_out.items():
        context.add_asset_metadata({"truth": str(error)}, partition_key=mission)
    for mission, (metadata, _) in evaluated.items():
        context.add_asset_metadata(metadata, partition_key=mission)
    results = [
        joint_result(
            context.op_execution_context,
            spec,
            {mission: checked[spec.name] for mission, (_, checked) in evaluated.items()},
        )
        for spec in CHECKS
    ]
    return dg.MaterializeResult(check_results=results)


def _evaluate(
    mission: str, sampled: Table, cleaned: Table, *, settings: Settings, run_id: str
) -> Evaluation | str:
    """The evaluation, whose files are written then, or why there is none."""
    paths = evaluation_paths(settings.output.output_dir, mission)
    locks = settings.output.work_dir / "locks"
    with claim_output(locks, mission, run_id=run_id, purpose="write the evaluation"):
        # Whatever happens next, no scores of an earlier run stand beside the new answers.
        remove_files(paths)
        found = evaluate_outcomes(
            MISSIONS[mission],
            groups_from_table(sampled),
            outcomes_from_table(cleaned, sampled),
            plan=RunPlan.from_metadata(table_metadata(cleaned)),
            settings=settings.evaluation,
        )
        if isinstance(found, Evaluation):
            write_files(paths, found)
    return found


def _check_results(judgements: Iterable[Judgement]) -> dict[str, dg.AssetCheckResult]:
    return {judgement.name: _check_result(judgement) for judgement in judgements}


def _check_result(judgement: Judgement) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=judgement.name,
        passed=judgement.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=judgement.sentence
        if judgement.passed
        else f"{judgement.sentence}; {_REMEDIES[judgement.name]}",
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
        "confusions": picture_preview(picture(evaluation), "confusions"),
        "truth": dg.MetadataValue.path(str(evaluation.subject.truth)),
        "scores": dg.MetadataValue.path(str(absolute(paths.document))),
        "picture": dg.MetadataValue.path(str(absolute(paths.picture))),
    }

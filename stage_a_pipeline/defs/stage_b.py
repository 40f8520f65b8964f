"""Stage-B's assets: the tickets of all missions, the adapter that learns from them, how well it judges."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import dagster as dg

from stage_a_pipeline.adapters.evaluation import AdapterEvaluation, evaluate_adapter, write_evaluation
from stage_a_pipeline.adapters.training import train_on_devices
from stage_a_pipeline.defs.delivery import stage_a_jsonl
from stage_a_pipeline.defs.previews import picture_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.settings import GrpoSettings
from stage_a_pipeline.stage_b.display import quality_sentences
from stage_a_pipeline.stage_b.metrics_file import read_metrics
from stage_a_pipeline.stage_b.reward_picture import reward_picture
from stage_a_pipeline.stage_b.scores import Shares
from stage_a_pipeline.stage_b.survey import Survey
from stage_a_pipeline.stage_b.training import Trained, TrainingAudience

GROUP = "stage_b"
_WARN = dg.AssetCheckSeverity.WARN
_MIN_RARER_SHARE = 0.1

DATASET_CHECKS = [
    dg.AssetCheckSpec(
        "both_labels_are_there",
        asset="stage_b_dataset",
        description="Each mission's rarer label has a tenth of its tickets; grpo.balance repeats them.",
    ),
    dg.AssetCheckSpec(
        "labels_do_not_contradict",
        asset="stage_b_dataset",
        description="No two tickets of a mission have the same summaries and opposite labels.",
    ),
]
ADAPTER_CHECKS = [
    dg.AssetCheckSpec(
        "frozen_weights_unchanged",
        asset="stage_b_adapter",
        description="Vision, aligner and language weights of the checkpoint hash as before the training.",
        blocking=True,
    )
]
EVALUATION_CHECKS = [
    dg.AssetCheckSpec(
        "verdicts_have_their_form",
        asset="stage_b_evaluation",
        description="At least grpo.min_format of the answers are two lines, a verdict and a reason.",
    ),
    dg.AssetCheckSpec(
        "accuracy_not_below_the_start",
        asset="stage_b_evaluation",
        description="With the adapter, no fewer verdicts on unseen tickets are right.",
    ),
    dg.AssetCheckSpec(
        "stage_a_quality_kept",
        asset="stage_b_evaluation",
        description="Summaries with the adapter lose at most grpo.max_stage_a_drop of quality.",
    ),
]


@dg.asset(deps=[stage_a_jsonl], group_name=GROUP, check_specs=DATASET_CHECKS, code_version="1")
def stage_b_dataset(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses [None] beside check outputs
    """The tickets of all delivered files: which teach, which judge, and what is odd about them."""
    from stage_a_pipeline.stage_b.material import gather_material

    material = gather_material(settings.load())
    for remark in material.remarks:
        context.log.info(remark)
    skipped = material.found.skipped_counts()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(material.found.tickets),
            "train": len(material.train),
            "held_out": len(material.split.held_out),
            "skipped_lines": dg.MetadataValue.json({str(why): count for why, count in skipped.items()}),
            "missions": _survey_table(material.survey),
            "best_accuracy": material.survey.best_accuracy,
            "survey": dg.MetadataValue.json(material.survey.to_mapping()),
        },
        data_version=dg.DataVersion(material.content_hash()),
        check_results=_dataset_checks(material.survey),
    )


@dg.asset(
    deps=[stage_b_dataset], group_name=GROUP, check_specs=ADAPTER_CHECKS, kinds={"pytorch"}, code_version="1"
)
def stage_b_adapter(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The adapter of the last language blocks, trained by GRPO; a stopped training goes on."""
    audience = TrainingAudience(
        notice=lambda sentence: progress.notice(context.log, sentence),
        log=context.log.info,
        progress=counted(progress.listener(context.log, "training")),
    )
    trained = train_on_devices(settings.load(), audience, run_id=context.run_id)
    before, after = trained.record["frozen_before"], trained.record["frozen_after"]
    return dg.MaterializeResult(
        metadata=_adapter_metadata(trained),
        data_version=dg.DataVersion(trained.folder.key),
        check_results=[
            dg.AssetCheckResult(
                check_name="frozen_weights_unchanged",
                passed=before == after,
                metadata={"before": dg.MetadataValue.json(before), "after": dg.MetadataValue.json(after)},
                description=f"{', '.join(before)}: the same hashes before and after",
            )
        ],
    )


@dg.asset(
    deps=[stage_b_adapter], group_name=GROUP, check_specs=EVALUATION_CHECKS, kinds={"json"}, code_version="1"
)
def stage_b_evaluation(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Verdicts on tickets that the adapter has not seen, before and after; Stage-A with and without it."""
    loaded = settings.load()
    audience = Audience(
        notice=lambda sentence: progress.notice(context.log, sentence),
        bar=lambda name, _: progress.listener(context.log, name),
    )
    evaluation = evaluate_adapter(loaded, None, audience)
    scores, *_ = write_evaluation(loaded.stage_b_dir, evaluation)
    return dg.MaterializeResult(
        metadata={
            **_share_metadata("before", evaluation.verdicts.total.before.shares),
            **_share_metadata("after", evaluation.verdicts.total.after.shares),
            **_share_metadata("difference", evaluation.verdicts.total.difference),
            "tickets": evaluation.verdicts.total.after.tickets,
            "suspected_labels": evaluation.suspects.count,
            "scores": dg.MetadataValue.path(str(scores)),
            **{name: picture_preview(svg, name) for name, svg in evaluation.pictures().items()},
        },
        check_results=list(_evaluation_checks(evaluation, loaded.grpo)),
    )


def _survey_table(survey: Survey) -> dg.TableMetadataValue:
    rows = [
        dg.TableRecord({name: _cell(value) for name, value in mission.to_mapping().items()})
        for mission in survey.missions
    ]
    return dg.MetadataValue.table(rows)


def _cell(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _dataset_checks(survey: Survey) -> Sequence[dg.AssetCheckResult]:
    rare = [mission for mission in survey.missions if mission.rarer_share < _MIN_RARER_SHARE]
    contradictions = sum(mission.contradictions for mission in survey.missions)
    return [
        dg.AssetCheckResult(
            check_name="both_labels_are_there",
            passed=not rare,
            severity=_WARN,
            description="; ".join(f"{one.mission}: {one.passes} pass, {one.fails} fail" for one in rare)
            or f"{len(survey.missions)} missions have both labels",
        ),
        dg.AssetCheckResult(
            check_name="labels_do_not_contradict",
            passed=not contradictions,
            severity=_WARN,
            description=f"{contradictions} pairs contradict each other; the best rule over summaries is "
            f"right on {survey.best_accuracy:.1%}",
            metadata={"pairs": [pair.sentence() for pair in survey.contradictions]},
        ),
    ]


def _adapter_metadata(trained: Trained) -> dict[str, Any]:
    metrics = read_metrics(trained.folder.metrics)
    return {
        "adapter": dg.MetadataValue.path(str(trained.adapter)),
        "metrics": dg.MetadataValue.path(str(trained.folder.metrics)),
        "tensorboard": dg.MetadataValue.path(str(trained.folder.tensorboard)),
        "steps": trained.record["steps"],
        "blocks": ", ".join(map(str, trained.record["blocks"])),
        "trainable": dg.MetadataValue.json(trained.record["trainable"]),
        "rewards": picture_preview(reward_picture(metrics), "rewards"),
    }


def _share_metadata(side: str, shares: Shares) -> dict[str, Any]:
    found = {field.name: getattr(shares, field.name) for field in fields(shares)}
    return {f"{name}_{side}": estimate.value for name, estimate in found.items() if estimate is not None}


def _evaluation_checks(
    evaluation: AdapterEvaluation, settings: GrpoSettings
) -> Iterable[dg.AssetCheckResult]:
    after, gained = evaluation.verdicts.total.after.shares, evaluation.verdicts.total.difference
    assert after.format is not None
    assert gained.accuracy is not None
    yield dg.AssetCheckResult(
        check_name="verdicts_have_their_form",
        passed=after.format.value >= settings.min_format,
        description=f"{after.format.value:.1%} of the answers; at least {settings.min_format:.1%} should be",
    )
    yield dg.AssetCheckResult(
        check_name="accuracy_not_below_the_start",
        passed=gained.accuracy.value >= 0,
        description=f"accuracy changed by {100 * gained.accuracy.value:+.1f} points (95% interval "
        f"{100 * gained.accuracy.low:+.1f} to {100 * gained.accuracy.high:+.1f})",
    )
    summaries = evaluation.summaries
    yield dg.AssetCheckResult(
        check_name="stage_a_quality_kept",
        passed=summaries is None or summaries.kept(settings.max_stage_a_drop),
        severity=_WARN if summaries is None else dg.AssetCheckSeverity.ERROR,
        description="no photos to compare" if summaries is None else " ".join(quality_sentences(summaries)),
    )

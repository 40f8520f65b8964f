"""Stage-B's assets: the tickets of all missions, the adapter that learns from them, how well it judges."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from stage_a_pipeline.adapters.evaluation import AdapterEvaluation, evaluate_adapter, write_evaluation
from stage_a_pipeline.adapters.training import train_on_devices
from stage_a_pipeline.defs.by_mission import ONE_RUN
from stage_a_pipeline.defs.delivery import stage_a_jsonl
from stage_a_pipeline.defs.kubernetes import training_tags
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import SETTINGS_AT_LOAD
from stage_a_pipeline.defs.previews import picture_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.defs.run_tags import engine_tags, tag_run
from stage_a_pipeline.defs.stage_b_checks import (
    ADAPTER_CHECKS,
    EVALUATION_CHECKS,
    check_evaluation,
    check_frozen_weights,
)
from stage_a_pipeline.defs.stage_b_previews import (
    NOT_COMPARED,
    mission_verdicts_preview,
    survey_preview,
    suspects_preview,
    verdicts_preview,
)
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.stage_b.bootstrap import Estimate
from stage_a_pipeline.stage_b.display import quality_sentences
from stage_a_pipeline.stage_b.material import Material, gather_material
from stage_a_pipeline.stage_b.metrics_file import read_metrics
from stage_a_pipeline.stage_b.reward_picture import reward_picture
from stage_a_pipeline.stage_b.scores import MEASURES, Compared
from stage_a_pipeline.stage_b.training import Trained, TrainingAudience

_ON_ALL_DEVICES = training_tags(SETTINGS_AT_LOAD)
_DIGITS = 4
"""Of shares: Dagster shows all that a number has."""


# `dagster asset materialize --partition-range` asks for the policy of every selected asset.
@dg.asset(**page("stage_b_dataset"), deps=[stage_a_jsonl], output_required=False, backfill_policy=ONE_RUN)
def stage_b_dataset(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]  # as the other assets have it
    """The tickets of all delivered files: which teach, which judge, and what is odd about them.

    A run of missions leaves it out, and all of Stage-B with it: photos that are summarised start no training.
    """
    if context.has_partition_key or context.has_partition_key_range:
        context.log.info("Stage-B is no part of a mission's run: materialise its assets without a partition")
        return
    material = gather_material(settings.load())
    for remark in material.remarks:
        context.log.info(remark)
    yield dg.MaterializeResult(
        metadata=_dataset_metadata(material), data_version=dg.DataVersion(material.content_hash())
    )


@dg.asset(
    **page("stage_b_adapter"),
    deps=[stage_b_dataset],
    check_specs=ADAPTER_CHECKS,
    op_tags=_ON_ALL_DEVICES,
    backfill_policy=ONE_RUN,
)
def stage_b_adapter(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses [None] beside check outputs
    """The adapter of the last language blocks, trained by GRPO; a stopped training goes on."""
    loaded = settings.load()
    tag_run(context, engine_tags(loaded))
    audience = TrainingAudience(
        notice=lambda sentence: progress.notice(context.log, sentence),
        log=context.log.info,
        progress=counted(progress.listener(context.log, "training", "steps")),
    )
    trained = train_on_devices(loaded, audience, run_id=context.run_id)
    return dg.MaterializeResult(
        metadata=_adapter_metadata(trained),
        data_version=dg.DataVersion(trained.folder.key),
        check_results=[check_frozen_weights(trained.record)],
    )


@dg.asset(
    **page("stage_b_evaluation"),
    deps=[stage_b_adapter],
    check_specs=EVALUATION_CHECKS,
    op_tags=_ON_ALL_DEVICES,
    backfill_policy=ONE_RUN,
)
def stage_b_evaluation(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Verdicts on tickets that the adapter has not seen, before and after; Stage-A with and without it."""
    loaded = settings.load()
    audience = Audience(
        notice=lambda sentence: progress.notice(context.log, sentence),
        bar=partial(progress.listener, context.log),
    )
    evaluation = evaluate_adapter(loaded, None, audience)
    scores, *_ = write_evaluation(loaded.stage_b_dir, evaluation, run_id=context.run_id)
    return dg.MaterializeResult(
        metadata={**_evaluation_metadata(evaluation), "scores": dg.MetadataValue.path(str(scores))},
        check_results=list(check_evaluation(evaluation.verdicts.total, evaluation.summaries, loaded.grpo)),
    )


def _dataset_metadata(material: Material) -> dict[str, Any]:
    skipped = material.found.skipped_counts()
    return {
        "dagster/row_count": len(material.found.tickets),
        "train": len(material.split.train),
        "train_repeated": len(material.train) - len(material.split.train),
        "held_out": len(material.split.held_out),
        "skipped_lines": dg.MetadataValue.json({str(why): count for why, count in skipped.items()}),
        "best_accuracy": round(material.survey.best_accuracy, _DIGITS),
        "missions": survey_preview(material.survey),
        "files": dg.MetadataValue.json([str(file) for file in material.files]),
    }


def _adapter_metadata(trained: Trained) -> dict[str, Any]:
    record = trained.record
    return {
        "steps": record["steps"],
        "blocks": f"{', '.join(map(str, record['blocks']))} of {record['depth']}, from 0",
        "rewards": picture_preview(reward_picture(read_metrics(trained.folder.metrics)), "rewards"),
        "adapter": dg.MetadataValue.path(str(trained.adapter)),
        "metrics": dg.MetadataValue.path(str(trained.folder.metrics)),
        "tensorboard": dg.MetadataValue.path(str(trained.folder.tensorboard)),
        "trainable": dg.MetadataValue.json(record["trainable"]),
    }


def _evaluation_metadata(evaluation: AdapterEvaluation) -> dict[str, Any]:
    total, summaries = evaluation.verdicts.total, evaluation.summaries
    pictures = evaluation.pictures()
    return {
        "tickets": total.after.tickets,
        **_share_metadata(total),
        "best_accuracy": round(evaluation.best_accuracy, _DIGITS),
        "suspected_labels": evaluation.suspects.count,
        "verdicts": verdicts_preview(total),
        "missions": mission_verdicts_preview(evaluation.verdicts),
        "suspects": suspects_preview(evaluation.suspects),
        "stage_a": NOT_COMPARED if summaries is None else "; ".join(quality_sentences(summaries)),
        # Rewards are the adapter's own.
        **{name: picture_preview(pictures[name], name) for name in ("accuracy", "confusion")},
    }


def _share_metadata(total: Compared) -> dict[str, Any]:
    """Bare numbers, which Dagster plots over evaluations."""
    sides = {"before": total.before.shares, "after": total.after.shares}
    return {
        f"{name}_{side}": _share(getattr(shares, name)) for name in MEASURES for side, shares in sides.items()
    }


def _share(estimate: Estimate | None) -> dg.MetadataValue[Any] | float:
    return dg.MetadataValue.null() if estimate is None else round(estimate.value, _DIGITS)

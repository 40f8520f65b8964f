"""Checks of Stage-B's assets: what must hold of an adapter, and what somebody should look at."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.defs.stage_b_previews import NOT_COMPARED
from stage_a_pipeline.settings import GrpoSettings
from stage_a_pipeline.stage_b.display import quality_sentences
from stage_a_pipeline.stage_b.material import gather_material
from stage_a_pipeline.stage_b.scores import Compared
from stage_a_pipeline.stage_b.summary_quality import SummaryQuality
from stage_a_pipeline.stage_b.survey import MissionSurvey, Survey
from stage_a_pipeline.stage_b.wording import counted, points

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
        description="Summaries with the adapter lose at most grpo.max_stage_a_drop of quality; a warning "
        "where there were no photos to tell.",
    ),
]


# Before the training, which takes long, where one process runs all steps. An op of its own: outputs of checks
# within an asset are required, and that asset is left out in runs of missions.
@dg.multi_asset_check(specs=DATASET_CHECKS, op_tags={"dagster/priority": "1"})
def stage_b_tickets_are_sound(settings: SettingsResource) -> Iterator[dg.AssetCheckResult]:
    """Whether the tickets can teach what tells pass from fail."""
    yield from check_tickets(gather_material(settings.load()).survey)


def check_tickets(survey: Survey) -> Iterator[dg.AssetCheckResult]:
    """Warnings about tickets that teach little."""
    rare = [mission for mission in survey.missions if mission.rarer_share < _MIN_RARER_SHARE]
    counts = "; ".join(map(_label_counts, rare or survey.missions))
    yield dg.AssetCheckResult(
        asset_key="stage_b_dataset",
        check_name="both_labels_are_there",
        passed=not rare,
        severity=_WARN,
        description=f"too few of a label: {counts}; deliver more groups of it, or set grpo.balance"
        if rare
        else counts,
    )
    contradictions = sum(mission.contradictions for mission in survey.missions)
    yield dg.AssetCheckResult(
        asset_key="stage_b_dataset",
        check_name="labels_do_not_contradict",
        passed=not contradictions,
        severity=_WARN,
        description=f"{counted(contradictions, 'pair')} of tickets with the same summaries and opposite "
        f"labels; the best rule over summaries is right on {survey.best_accuracy:.1%}"
        + ("; correct wrong labels among the pairs below" if contradictions else ""),
        metadata={"pairs": [pair.sentence() for pair in survey.contradictions]},
    )


def check_frozen_weights(record: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Whether a training left the checkpoint's weights as they were, by what it wrote down."""
    before, after = record["frozen_before"], record["frozen_after"]
    changed = [part for part in before if before[part] != after.get(part)]
    return dg.AssetCheckResult(
        check_name="frozen_weights_unchanged",
        passed=before == after,
        description=f"changed: {', '.join(changed)}; do not use this adapter: train it again, and report it"
        if changed
        else f"the same hashes before and after: {', '.join(before)}",
        metadata={"before": dg.MetadataValue.json(before), "after": dg.MetadataValue.json(after)},
    )


def check_evaluation(
    verdicts: Compared, summaries: SummaryQuality | None, settings: GrpoSettings
) -> Iterator[dg.AssetCheckResult]:
    """What an evaluation must show; there is at least one ticket."""
    form, gained = verdicts.after.shares.format, verdicts.difference.accuracy
    assert form is not None
    assert gained is not None
    yield dg.AssetCheckResult(
        check_name="verdicts_have_their_form",
        passed=form.value >= settings.min_format,
        description=f"{form.value:.1%} of the answers; at least {settings.min_format:.1%} should be"
        + ("" if form.value >= settings.min_format else "; train for more steps (grpo.max_steps)"),
    )
    yield dg.AssetCheckResult(
        check_name="accuracy_not_below_the_start",
        passed=gained.value >= 0,
        description=f"accuracy changed by {points(gained)} points"
        + ("" if gained.value >= 0 else "; keep the former adapter, and look at the suspected labels"),
    )
    yield _check_summaries(summaries, settings)


def _check_summaries(summaries: SummaryQuality | None, settings: GrpoSettings) -> dg.AssetCheckResult:
    name = "stage_a_quality_kept"
    if summaries is None:
        # Not passed, since nobody looked; a warning, since nothing is known to be wrong.
        return dg.AssetCheckResult(check_name=name, passed=False, severity=_WARN, description=NOT_COMPARED)
    kept = summaries.kept(settings.max_stage_a_drop)
    remedy = [] if kept else ["do not use this adapter for summaries: train fewer blocks (grpo.lora_last_k)"]
    return dg.AssetCheckResult(
        check_name=name,
        passed=kept,
        description="; ".join([*quality_sentences(summaries), *remedy]),
    )


def _label_counts(mission: MissionSurvey) -> str:
    return f"{mission.mission}: {mission.passes:,} pass, {mission.fails:,} fail"

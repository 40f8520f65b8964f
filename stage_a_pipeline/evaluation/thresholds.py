"""Pure policy: which scores are worth a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.evaluation.document import Evaluation
from stage_a_pipeline.evaluation.scores import AttributeScores
from stage_a_pipeline.settings import EvaluationSettings

VALID: Final = "answers_are_valid"
EXACT: Final = "answers_match_exactly"
ATTRIBUTES: Final = "attributes_are_told"
WEAKEST: Final = "weakest_attribute_is_told"
IRRELEVANT: Final = "irrelevant_photos_are_told"
DESCRIPTIONS: Final = {
    VALID: "Share of answers that are 无关图片 or a canonical line in the mission's vocabulary.",
    EXACT: "Share of answers that are the truth, character by character.",
    ATTRIBUTES: "Recall and precision over all counted values.",
    WEAKEST: "Recall and precision of the attribute that is told worst.",
    IRRELEVANT: "Recall and precision of photos that are, or are called, 无关图片.",
}
"""The judgements, in their order, and what each is about."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether scores reach their thresholds, and both in a sentence."""

    name: str
    passed: bool
    sentence: str


def judge_scores(evaluation: Evaluation, limits: EvaluationSettings) -> Iterator[Judgement]:
    """One judgement for each of DESCRIPTIONS. A share of nothing reaches any threshold."""
    scores = evaluation.scores
    attribute_limits = (limits.min_attribute_recall, limits.min_attribute_precision)
    yield _judge(VALID, [("valid", scores.valid, limits.min_valid)])
    yield _judge(EXACT, [("exact", scores.exact_match, limits.min_exact_match)])
    yield _judge(ATTRIBUTES, _pair((scores.attribute_recall, scores.attribute_precision), attribute_limits))
    yield _judge_weakest(evaluation, attribute_limits)
    yield _judge(
        IRRELEVANT,
        _pair(
            (scores.irrelevant_recall, scores.irrelevant_precision),
            (limits.min_irrelevant_recall, limits.min_irrelevant_precision),
        ),
    )


def weakest_first(evaluation: Evaluation) -> list[tuple[str, AttributeScores]]:
    """Attributes by the lower of recall and precision, those with neither last."""
    return sorted(evaluation.per_attribute.items(), key=lambda item: _weakness(item[1]))


def percent(share: float | None) -> str:
    """A share as people read it; a dash for a share of nothing."""
    return "-" if share is None else f"{share:.1%}"


_Measure = tuple[str, float | None, float]
"""The name of a share, the share, and its threshold."""


def _judge_weakest(evaluation: Evaluation, limits: tuple[float, float]) -> Judgement:
    if not evaluation.per_attribute:
        return Judgement(WEAKEST, True, "there is no attribute to tell")
    name, scores = weakest_first(evaluation)[0]
    judged = _judge(WEAKEST, _pair((scores.recall, scores.precision), limits))
    counts = f"{name} ({scores.true} true, {scores.said} said)"
    return Judgement(WEAKEST, judged.passed, f"{counts}: {judged.sentence}")


def _weakness(scores: AttributeScores) -> float:
    return min((share for share in (scores.recall, scores.precision) if share is not None), default=1.0)


def _pair(shares: tuple[float | None, float | None], limits: tuple[float, float]) -> list[_Measure]:
    return list(zip(("recall", "precision"), shares, limits, strict=True))


def _judge(name: str, measures: list[_Measure]) -> Judgement:
    low = any(share is not None and share < limit for _, share, limit in measures)
    told = (f"{what} {percent(share)}, at least {limit:.1%} expected" for what, share, limit in measures)
    return Judgement(name, not low, "; ".join(told))

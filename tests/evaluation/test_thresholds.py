"""Which scores are worth a warning, and in which words."""

import pytest

from stage_a_pipeline.evaluation.thresholds import DESCRIPTIONS, judge_scores, weakest_first
from stage_a_pipeline.settings import EvaluationSettings
from tests.evaluation.conftest import NOTHING, evaluation, summary, wire

GOOD = [(wire(整齐=1), wire(整齐=1))] * 9
WRONG_VALUE = (wire(整齐=1), wire(散乱=1))
NOT_VALID = (wire(整齐=1), "{")
MISSED = (NOTHING, wire(整齐=1))
CRIED_WOLF = (wire(整齐=1), NOTHING)


def judged(*pairs, **limits):
    judgements = list(judge_scores(evaluation(*pairs), EvaluationSettings(**limits)))
    assert [one.name for one in judgements] == list(DESCRIPTIONS)
    return {one.name for one in judgements if not one.passed}, {one.name: one.sentence for one in judgements}


CASES = [
    ([], {}, set()),
    (GOOD, {}, set()),
    ([*GOOD, NOT_VALID], {"min_exact_match": 0.9}, {"answers_are_valid"}),
    ([*GOOD, NOT_VALID], {"min_valid": 0.9}, set()),
    ([*GOOD, WRONG_VALUE], {}, set()),
    (
        [*GOOD, WRONG_VALUE],
        {"min_attribute_recall": 0.95},
        {"attributes_are_told", "weakest_attribute_is_told"},
    ),
    ([*GOOD, WRONG_VALUE], {"min_exact_match": 0.95}, {"answers_match_exactly"}),
    ([*GOOD, MISSED], {}, {"irrelevant_photos_are_told"}),
    ([*GOOD, CRIED_WOLF], {}, {"irrelevant_photos_are_told"}),
]


@pytest.mark.parametrize(("pairs", "limits", "failed"), CASES)
def test_what_falls_short(pairs, limits, failed):
    assert judged(*pairs, **limits)[0] == failed


def test_one_weak_attribute_is_told_although_all_together_are_good():
    weak = (summary(("光纤", {"保护措施": {"有保护": 1}})), summary(("光纤", {"保护措施": {"无保护": 1}})))
    failed, sentences = judged(*GOOD, *GOOD, weak)
    assert failed == {"weakest_attribute_is_told"}
    assert sentences["weakest_attribute_is_told"] == (
        "光纤.保护措施 (1 true, 1 said): recall 0.0%, at least 90.0% expected; "
        "precision 0.0%, at least 90.0% expected"
    )


def test_sentences_name_share_and_threshold_and_shares_of_nothing():
    _, sentences = judged(*GOOD)
    assert sentences["answers_are_valid"] == "valid 100.0%, at least 99.0% expected"
    assert sentences["irrelevant_photos_are_told"].startswith("recall -, at least 98.0% expected")
    assert judged()[1]["weakest_attribute_is_told"] == "there is no attribute to tell"


def test_the_weakest_attribute_has_the_lowest_recall_or_precision():
    only_said = (NOTHING, summary(("光纤", {"保护措施": {"有保护": 1}})))
    names = [name for name, _ in weakest_first(evaluation(*GOOD, only_said))]
    assert names == ["光纤.保护措施", "电线.捆扎"]

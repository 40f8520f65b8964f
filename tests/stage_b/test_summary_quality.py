"""Stage-A with and without the adapter, counted by hand."""

import json

import pytest

from stage_a_pipeline.stage_b.summary_quality import PhotoAnswers, compare_summaries
from tests.evaluation.conftest import NOTHING, summary

BOTH = summary(("BBU设备", {"品牌": {"华为": 1}, "可见性": {"完整": 1}}))
BRAND = summary(("BBU设备", {"品牌": {"华为": 1}}))
OTHER_BRAND = summary(("BBU设备", {"品牌": {"中兴": 1}, "可见性": {"完整": 1}}))
BROKEN = '{"统计": ['


def quality(*photos):
    """Of (base, adapted) or (base, adapted, reference), each a photo of its own group."""
    rows = [PhotoAnswers(f"g{number}", f"{number}.jpg", *photo) for number, photo in enumerate(photos)]
    return compare_summaries(rows, samples=200, seed=1)


def shares(change):
    return (change.base.value, change.adapted.value, change.difference.value)


def test_against_the_truth_both_are_measured_and_the_difference_is_paired():
    found = quality((BOTH, BOTH, BOTH), (BOTH, BRAND, BOTH), (BRAND, BRAND, BOTH), (BRAND, OTHER_BRAND, BOTH))
    assert shares(found.exact_match) == (0.5, 0.25, -0.25)
    assert shares(found.key_recall) == (0.75, 0.75, 0.0)
    assert found.exact_match.difference.low < -0.25 < found.exact_match.difference.high <= 0
    assert found.key_recall.difference.low < 0 < found.key_recall.difference.high


def test_against_the_former_answers_where_there_is_no_truth():
    found = quality((BOTH, BOTH), (BOTH, BRAND), (NOTHING, NOTHING), (BOTH, NOTHING))
    assert (found.exact_match, found.key_recall, found.photos_with_truth) == (None, None, 0)
    assert found.agreement.value == 0.5
    assert found.base_key_recall.value == (1 + 0.5 + 1 + 0) / 4


def test_an_answer_that_was_broken_before_has_lost_nothing_when_it_stays_the_same():
    assert quality((BROKEN, BROKEN)).base_key_recall.value == 1.0
    assert quality((BROKEN, BOTH)).base_key_recall.value == 0.0


def test_photos_without_a_truth_count_for_agreement_alone():
    found = quality((BOTH, BOTH, BOTH), (BOTH, BRAND))
    assert (found.photos, found.photos_with_truth) == (2, 1)
    assert shares(found.exact_match) == (1.0, 1.0, 0.0)
    assert found.agreement.value == 0.5


def hundred(changed, adapted, reference=None):
    return quality(*[(BOTH, adapted, reference)] * changed, *[(BOTH, BOTH, reference)] * (100 - changed))


@pytest.mark.parametrize(
    ("found", "max_drop", "kept"),
    [
        (hundred(1, BRAND, BOTH), 0.01, True),
        (hundred(2, BRAND, BOTH), 0.01, False),
        (hundred(2, OTHER_BRAND, BOTH), 0.01, False),
        (hundred(7, BRAND, BOTH), 0.07, True),
        (hundred(50, BRAND, OTHER_BRAND), 0.0, False),
        (hundred(50, OTHER_BRAND, OTHER_BRAND), 0.0, True),
        (hundred(1, BRAND), 0.01, True),
        (hundred(2, OTHER_BRAND), 0.01, False),
        (hundred(7, NOTHING), 0.07, True),
        (hundred(100, OTHER_BRAND), 1.0, True),
        (quality(), 0.0, True),
    ],
)
def test_quality_is_kept_when_neither_share_falls_by_more_than_is_allowed(found, max_drop, kept):
    assert found.kept(max_drop) is kept


def test_keys_that_are_lost_count_although_exact_matches_are_not():
    found = quality((BRAND, NOTHING, BOTH), (BOTH, BOTH, BOTH))
    assert found.exact_match.difference.value == 0
    assert not found.kept(0.2)
    assert found.kept(0.25)


def test_photos_of_one_group_are_resampled_together():
    rows = [PhotoAnswers("g", f"{number}.jpg", BOTH, BRAND if number else BOTH) for number in range(4)]
    agreement = compare_summaries(rows, samples=100, seed=1).agreement
    assert (agreement.low, agreement.value, agreement.high) == (0.25, 0.25, 0.25)


def test_changed_answers_are_counted_and_the_first_listed():
    found = hundred(30, BRAND)
    assert found.changed == 30
    assert [photo.photo for photo in found.listed] == [f"{number}.jpg" for number in range(20)]
    mapping = found.to_mapping()
    assert json.loads(json.dumps(mapping, allow_nan=False)) == mapping
    assert mapping["listed"][0] == {
        "group_id": "g0",
        "photo": "0.jpg",
        "base": BOTH,
        "adapted": BRAND,
        "reference": None,
    }
    assert mapping["agreement"]["value"] == 0.7

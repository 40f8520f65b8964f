"""The metrics, computed by hand."""

import pytest

from stage_a_pipeline.evaluation.scores import (
    AttributeScores,
    CategoryScores,
    Scores,
    score_attributes,
    score_categories,
    score_readings,
)
from tests.evaluation.conftest import BBU, NOTHING, RRU, read, summary, wire

DEVICE = ("BBU设备", {"品牌": {"华为": 1}, "可见性": {"完整": 1}})
OTHER_BRAND = ("BBU设备", {"品牌": {"中兴": 1}, "可见性": {"完整": 1}})


def shares(readings, *names):
    scores = score_readings(readings)
    return tuple(getattr(scores, name) for name in names)


ATTRIBUTE_CASES = [
    # (true, said, recall, precision, count accuracy)
    (wire(整齐=1), wire(整齐=1), 1.0, 1.0, 1.0),
    (wire(整齐=1), wire(散乱=1), 0.0, 0.0, None),
    (wire(整齐=3), wire(整齐=2), 2 / 3, 1.0, 0.0),
    (wire(整齐=2), wire(整齐=3), 1.0, 2 / 3, 0.0),
    (wire(整齐=2, 散乱=1), wire(整齐=2), 2 / 3, 1.0, 1.0),
    (wire(整齐=2, 散乱=1), wire(整齐=1, 散乱=1), 2 / 3, 1.0, 1 / 2),
    (summary(DEVICE), summary(OTHER_BRAND), 1 / 2, 1 / 2, 1.0),
    (summary(DEVICE), NOTHING, 0.0, None, None),
    (NOTHING, summary(DEVICE), None, 0.0, None),
    (NOTHING, NOTHING, None, None, None),
    (summary(DEVICE, 备注=["反光", "遮挡"]), summary(DEVICE, 备注=["遮挡"]), 3 / 4, 1.0, 1.0),
    (summary(DEVICE), "", 0.0, None, None),
    (summary(DEVICE), summary(DEVICE)[:-1], 0.0, None, None),
    # Invalid, and read all the same: an unknown attribute is said in vain.
    (wire(整齐=1), summary(("电线", {"捆扎": {"整齐": 1}, "颜色": {"红": 1}})), 1.0, 1 / 2, 1.0),
]


@pytest.mark.parametrize(("true", "said", "recall", "precision", "counts"), ATTRIBUTE_CASES)
def test_counted_values(true, said, recall, precision, counts):
    names = ("attribute_recall", "attribute_precision", "count_accuracy")
    assert shares([read(true, said)], *names) == (recall, precision, counts)


def test_groups_of_rru_objects_count_as_an_attribute():
    true = summary(("尾纤", {}), 分组统计={"1": {"尾纤": 1, "标签": 2}})
    said = summary(("尾纤", {}), 分组统计={"1": {"尾纤": 1, "标签": 1}})
    scores = score_attributes([read(true, said, mission=RRU)])
    assert scores == {"分组统计": AttributeScores(2 / 3, 1.0, 1 / 2, 3, 2)}


CATEGORY_CASES = [
    ([("电线", {}), ("光纤", {})], [("电线", {})], 1 / 2, 1.0),
    ([("电线", {})], [("电线", {}), ("光纤", {})], 1.0, 1 / 2),
    ([("电线", {})], [("光纤", {})], 0.0, 0.0),
]


@pytest.mark.parametrize(("true", "said", "recall", "precision"), CATEGORY_CASES)
def test_categories_are_present_or_not(true, said, recall, precision):
    readings = [read(summary(*true), summary(*said))]
    assert shares(readings, "category_recall", "category_precision") == (recall, precision)


def test_all_shares_are_micro_over_photos():
    readings = [
        read(summary(DEVICE), summary(DEVICE)),
        read(summary(DEVICE), NOTHING),
        read(NOTHING, NOTHING),
        read(NOTHING, "{"),
        read(wire(整齐=4), "", rejected="read: truncated"),
    ]
    assert score_readings(readings) == Scores(
        photos=5,
        valid=3 / 5,
        exact_match=2 / 5,
        attribute_recall=2 / 8,
        attribute_precision=1.0,
        category_recall=1 / 3,
        category_precision=1.0,
        count_accuracy=1.0,
        irrelevant_recall=1 / 2,
        irrelevant_precision=1 / 2,
    )


def test_shares_of_nothing_are_none():
    scores = score_readings([])
    assert scores.photos == 0
    assert {getattr(scores, name) for name in Scores.__slots__ if name != "photos"} == {None}
    assert score_attributes([]) == score_categories([]) == {}


def test_attributes_and_categories_are_told_one_by_one_in_order():
    readings = [
        read(summary(("电线", {"捆扎": {"整齐": 1}}), DEVICE), summary(DEVICE)),
        read(wire(整齐=1), summary(OTHER_BRAND)),
    ]
    assert score_attributes(readings) == {
        "BBU设备.品牌": AttributeScores(1.0, 1 / 2, 1.0, 1, 2),
        "BBU设备.可见性": AttributeScores(1.0, 1 / 2, 1.0, 1, 2),
        "电线.捆扎": AttributeScores(0.0, None, None, 2, 0),
    }
    assert list(score_attributes(readings)) == ["BBU设备.品牌", "BBU设备.可见性", "电线.捆扎"]
    assert score_categories(readings) == {
        "BBU设备": CategoryScores(1.0, 1 / 2, 1, 2),
        "电线": CategoryScores(0.0, None, 2, 0),
    }


def test_an_answer_of_the_other_dataset_is_invalid_and_scores_what_it_says():
    (scores,) = [score_readings([read(summary(("标签", {"可读性": {"不可读": 1}})),
                                      summary(("标签", {"可读性": {"不可读": 1}, "组": {"1": 1}})),
                                      mission=BBU)])]  # fmt: skip
    assert (scores.valid, scores.attribute_recall, scores.attribute_precision) == (0.0, 1.0, 1 / 2)

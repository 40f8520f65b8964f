"""Frequencies of what two sides say, and which differences are more than chance."""

import pytest

from stage_a_pipeline.report.frequencies import (
    adjust,
    content_of,
    fisher_exact,
    key_order,
    merge_contents,
    value_frequencies,
)
from tests.evaluation.conftest import summary

SOUND = content_of(summary(("挡风板", {"安装方向": {"方向正确": 2}}), ("标签", {"文本": {"A1": 1, "B2": 1}})))
WRONG = content_of(summary(("挡风板", {"安装方向": {"方向错误": 1}})))
NOTHING = content_of("一行文字")
IRRELEVANT = content_of("无关图片")


def test_items_are_counted_not_the_things_in_them():
    board, right, wrong, label, text, irrelevant = value_frequencies(
        {"pass": [SOUND] * 3 + [NOTHING], "fail": [WRONG, SOUND, IRRELEVANT, IRRELEVANT, NOTHING]}
    )
    assert (board.attribute, board.value) == ("挡风板", None)
    assert (right.attribute, right.value) == ("挡风板.安装方向", "方向正确")
    assert (right.counts, right.totals) == ({"pass": 3, "fail": 1}, {"pass": 4, "fail": 5})
    assert right.shares == {"pass": 0.75, "fail": 0.2}
    assert right.difference == pytest.approx(-0.55)
    assert (wrong.value, wrong.counts) == ("方向错误", {"pass": 0, "fail": 1})
    assert (label.attribute, label.counts) == ("标签", {"pass": 3, "fail": 1})
    assert (text.attribute, text.value, text.counts) == ("标签.文本", None, {"pass": 3, "fail": 1})
    assert (irrelevant.attribute, irrelevant.counts) == ("无关图片", {"pass": 0, "fail": 2})


def test_a_group_says_what_any_of_its_photos_says():
    merged = merge_contents([SOUND, WRONG, SOUND])
    assert merged.categories == {"挡风板", "标签"}
    assert merged.values["挡风板.安装方向", "方向正确"] == 4
    assert merged.values["挡风板.安装方向", "方向错误"] == 1


def test_a_side_without_items_has_no_shares_and_no_test():
    (board, *_) = value_frequencies({"pass": [], "fail": [WRONG]})
    assert (board.shares, board.difference) == ({"pass": None, "fail": 1.0}, None)
    assert (board.p_adjusted, board.matters) == (None, False)
    assert value_frequencies({"pass": [], "fail": []}) == ()


@pytest.mark.parametrize("sides", [{}, {"pass": [SOUND]}, {"a": [], "b": [], "c": []}])
def test_other_than_two_sides_are_refused(sides):
    with pytest.raises(ValueError, match="two sides are compared"):
        value_frequencies(sides)


def test_what_matters_is_both_beyond_chance_and_large():
    few = value_frequencies({"pass": [SOUND] * 3, "fail": [WRONG] * 3})
    assert not any(row.matters for row in few), "six items tell nothing after four tests"
    many = value_frequencies({"pass": [SOUND] * 30, "fail": [WRONG] * 30})
    assert {row.attribute for row in many if row.matters} == {"挡风板.安装方向", "标签", "标签.文本"}
    large = {"pass": [SOUND] * 49_000 + [WRONG] * 1_000, "fail": [SOUND] * 48_000 + [WRONG] * 2_000}
    tiny = value_frequencies(large)
    assert {row.matters for row in tiny} == {False}, "two points are beyond chance, and too little"
    assert max(row.p_adjusted for row in tiny if row.attribute != "挡风板") < 1e-50


def test_rows_are_in_the_vocabulary_s_order_a_category_before_its_attributes():
    keys = [
        ("怪物.颜色", None), ("电线.捆扎", "散乱"), ("BBU设备.可见性", "部分"), ("怪物", None),
        ("电线.捆扎", "整齐"), ("BBU设备.可见性", "完整"), ("电线", None), ("BBU设备.品牌", "华为"),
        ("BBU设备", None), ("电线", None),
    ]  # fmt: skip
    assert key_order(keys) == [
        ("BBU设备", None), ("BBU设备.品牌", "华为"), ("BBU设备.可见性", "完整"), ("BBU设备.可见性", "部分"),
        ("电线", None), ("电线.捆扎", "整齐"), ("电线.捆扎", "散乱"), ("怪物", None), ("怪物.颜色", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "p_value"),
    [
        # Fisher's tea; the other values by R's fisher.test.
        ((3, 4, 1, 4), 0.4857142857),
        ((1, 10, 11, 14), 0.002759456),
        ((10, 10, 0, 10), 1.0825e-5),
        ((0, 7, 0, 9), 1.0),
        ((7, 7, 9, 9), 1.0),
        ((0, 0, 5, 9), 1.0),
        ((1, 10, 0, 1000), 0.00990099),
    ],
)
def test_the_exact_test_agrees_with_known_values(table, p_value):
    assert fisher_exact(*table) == pytest.approx(p_value, rel=1e-4)


@pytest.mark.parametrize(
    "table", [(400, 1000, 450, 900), (3, 33_000, 21, 31_000), (9_000, 33_000, 9_900, 33_000)]
)
def test_the_exact_test_agrees_with_scipy_on_large_tables(table):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (extra reassembly)")
    first, first_total, second, second_total = table
    expected = stats.fisher_exact([[first, first_total - first], [second, second_total - second]]).pvalue
    assert fisher_exact(*table) == pytest.approx(expected, rel=1e-6)


def test_adjusted_p_values_are_those_of_the_paper_s_example():
    # Benjamini and Hochberg (1995), section 3.2: the first four of fifteen are found at 0.05.
    given = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    adjusted = adjust(given[::-1])[::-1]
    assert adjusted == sorted(adjusted)
    assert [p < 0.05 for p in adjusted] == [True] * 4 + [False] * 11
    assert adjusted[:2] == pytest.approx([0.0015, 0.003])
    assert adjust([]) == []

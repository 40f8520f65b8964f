"""What is read of a summary, be its form right or not."""

import pytest

from stage_a_pipeline.summary_content import (
    attribute_order,
    category_order,
    is_free,
    read_content,
    value_order,
)
from tests.evaluation.conftest import summary

DEVICE = ("BBU设备", {"品牌": {"华为": 2}, "可见性": {"完整": 1, "部分": 1}})

CASES = [
    ("无关图片", set(), {}),
    ("一行文字", set(), {}),
    ('{"统计": [', set(), {}),
    ("[1]", set(), {}),
    ('{"统计": 5, "备注": "x", "分组统计": []}', set(), {}),
    (
        summary(DEVICE),
        {"BBU设备"},
        {("BBU设备.品牌", "华为"): 2, ("BBU设备.可见性", "完整"): 1, ("BBU设备.可见性", "部分"): 1},
    ),
    (summary(("RRU设备", {})), {"RRU设备"}, {}),
    (summary(备注=["反光", "反光", "遮挡", 3]), set(), {("备注", "反光"): 2, ("备注", "遮挡"): 1}),
    (
        summary(分组统计={"1": {"尾纤": 1, "标签": 2}, "2": 5}),
        set(),
        {("分组统计", "1/尾纤"): 1, ("分组统计", "1/标签"): 2},
    ),
    # What is wrong beside it does not hide what can be read.
    (summary(("怪物", {"颜色": {"红": 1}})), {"怪物"}, {("怪物.颜色", "红"): 1}),
    (summary(("电线", {"捆扎": {"整齐": 0, "散乱": -1, "乱": 1.5}})), {"电线"}, {}),
    (summary(("电线", {"捆扎": {"整齐": "2", "散乱": True, "乱": 10**12}})), {"电线"}, {}),
    (summary(("电线", {"捆扎": "整齐"})), {"电线"}, {}),
    (
        summary(("电线", {"捆扎": {"整齐": 1}}), ("电线", {"捆扎": {"整齐": 2}})),
        {"电线"},
        {("电线.捆扎", "整齐"): 3},
    ),
    ('{"统计": ["电线", {"类别": 5}, {"可见性": {"完整": 1}}]}', set(), {}),
]


@pytest.mark.parametrize(("text", "categories", "values"), CASES)
def test_what_a_summary_says(text, categories, values):
    content = read_content(text)
    assert content.categories == categories
    assert content.values == values


def test_names_and_values_are_in_the_vocabulary_s_order_and_others_behind():
    assert category_order(["尾纤", "标签", "怪物", "BBU设备"]) == ["BBU设备", "标签", "尾纤", "怪物"]
    names = ["分组统计", "备注", "怪.x", "标签.文本", "BBU设备.可见性", "BBU设备.品牌"]
    assert attribute_order(names) == [
        "BBU设备.品牌", "BBU设备.可见性", "标签.文本", "备注", "分组统计", "怪.x",
    ]  # fmt: skip
    assert value_order("BBU设备.品牌", ["爱立信", "未知", "华为"]) == ["华为", "爱立信", "未知"]
    assert value_order("站点距离.站点距离", ["72", "8", "一", "015"]) == ["8", "015", "72", "一"]


def test_free_attributes_are_those_without_listed_values():
    free = {name: is_free(name) for name in ("标签.文本", "站点距离.站点距离", "备注", "怪.x", "电线.捆扎")}
    assert free == {
        "标签.文本": True,
        "站点距离.站点距离": True,
        "备注": True,
        "怪.x": True,
        "电线.捆扎": False,
    }

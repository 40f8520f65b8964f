"""What counts as a valid summary."""

import pytest

from stage_a_pipeline.evaluation.form import summary_defect

DEVICE = '{"统计": [{"类别": "BBU设备", "品牌": {"华为": 1}, "可见性": {"完整": 1}}]}'

VALID = [
    ("bbu", "无关图片"),
    ("rru", "无关图片"),
    ("bbu", DEVICE),
    ("bbu", '{"统计": [{"类别": "标签", "文本": {"什么都行 1": 3}}], "备注": ["反光"]}'),
    (
        "rru",
        '{"统计": [{"类别": "RRU设备"}, {"类别": "站点距离", "站点距离": {"36": 1}}], "分组统计": {"1": {}}}',
    ),
    ("rru", '{"统计": [{"类别": "尾纤"}], "分组统计": {"1": {"尾纤": 1, "标签": 2}, "2": {"接地线": 1}}}'),
    ("bbu", '{"统计": [{"类别": "标签", "文本": {"a\\u2028b": 1}}]}'),
]

INVALID = [
    ("bbu", "", "not JSON"),
    ("bbu", "无关图片。", "not JSON"),
    ("bbu", DEVICE[:-1], "not JSON"),
    ("bbu", f"{DEVICE} ", "not one canonical line"),
    ("bbu", DEVICE.replace(": ", ":"), "not one canonical line"),
    ("bbu", "[1]", "not one canonical line"),
    ("bbu", "{}", "not an object with the list"),
    ("bbu", '{"统计": {"类别": "电线"}}', "not an object with the list"),
    ("bbu", '{"统计": [], "别的": 1}', "not an object with the list"),
    ("bbu", '{"统计": []}', "no entry"),
    ("bbu", '{"统计": ["电线"]}', "an entry without a category"),
    ("bbu", '{"统计": [{"类别": ["电线"]}]}', "an entry without a category"),
    ("bbu", '{"统计": [{"可见性": {"完整": 1}}]}', "an entry without a category"),
    ("bbu", '{"统计": [{"类别": "电线"}, {"类别": "电线"}]}', "a category twice"),
    ("rru", DEVICE, "unknown category BBU设备"),
    ("bbu", DEVICE.replace("品牌", "牌子"), "BBU设备 has no attribute 牌子"),
    ("bbu", DEVICE.replace("华为", "未知"), "品牌 counts '未知'"),
    ("bbu", DEVICE.replace('"华为": 1', '"华为": 0'), "counts '华为': 0"),
    ("bbu", DEVICE.replace('"华为": 1', '"华为": "1"'), "counts '华为': '1'"),
    ("bbu", DEVICE.replace('"华为": 1', '"华为": true'), "counts '华为': True"),
    ("bbu", DEVICE.replace('{"华为": 1}', "1"), "品牌 holds no counts"),
    ("bbu", DEVICE.replace('{"华为": 1}', "{}"), "品牌 holds no counts"),
    ("rru", '{"统计": [{"类别": "站点距离", "站点距离": {"远": 1}}]}', "counts '远'"),
    ("bbu", '{"统计": 5}', "not an object with the list"),
    ("bbu", '{"统计": [{"类别": "标签", "文本": {"A": 1, "A": 1}}]}', "not one canonical line"),
    ("bbu", "[" * 100_000, "not JSON"),
    ("bbu", '{"统计": ' + "[" * 900 + "]" * 900 + "}", "not JSON"),
    ("bbu", '{"统计": [{"类别": "标签", "文本": {"A": ' + "9" * 5000 + "}}]}", "not JSON"),
    ("bbu", '{"备注": ["反光"], "统计": [{"类别": "电线"}]}', "keys in another order than 统计, 备注"),
    ("bbu", DEVICE[:-1] + ', "备注": "反光"}', "备注 is no list of texts"),
    ("bbu", DEVICE[:-1] + ', "备注": [1]}', "备注 is no list of texts"),
    ("bbu", DEVICE[:-1] + ', "分组统计": {}}', "belongs to rru"),
    ("rru", '{"统计": [{"类别": "尾纤"}], "备注": []}', "belongs to bbu"),
    ("rru", '{"统计": [{"类别": "尾纤"}], "分组统计": []}', "no object of groups"),
    ("rru", '{"统计": [{"类别": "尾纤"}], "分组统计": {"1": {"电线": 1}}}', "分组统计.1 holds no counts"),
    ("rru", '{"统计": [{"类别": "尾纤"}], "分组统计": {"1": {"尾纤": 0}}}', "分组统计.1 holds no counts"),
]


@pytest.mark.parametrize(("dataset", "line"), VALID)
def test_valid_summaries(dataset, line):
    assert summary_defect(line, dataset) is None


@pytest.mark.parametrize(("dataset", "line", "defect"), INVALID)
def test_invalid_summaries_are_told_why(dataset, line, defect):
    assert defect in summary_defect(line, dataset)

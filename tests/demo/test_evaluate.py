"""What counts as a valid summary, and the shares that are told."""

import pytest

from stage_a_pipeline.demo.evaluate import Reading, measure_accuracy, read_tree, summary_defect
from stage_a_pipeline.engines.base import Completion

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
]


@pytest.mark.parametrize(("dataset", "line"), VALID)
def test_valid_summaries(dataset, line):
    assert summary_defect(line, dataset) is None


@pytest.mark.parametrize(("dataset", "line", "defect"), INVALID)
def test_invalid_summaries_are_told_why(dataset, line, defect):
    assert defect in summary_defect(line, dataset)


def test_the_shares_are_of_the_right_totals():
    readings = [
        Reading("甲", "1", DEVICE, DEVICE, None),
        Reading("甲", "2", DEVICE, "无关图片", None),
        Reading("乙", "3", "无关图片", "无关图片", None),
        Reading("乙", "4", "无关图片", "{", "not JSON"),
    ]
    accuracy = measure_accuracy(readings)
    assert (accuracy.photos, accuracy.valid, accuracy.exact_match) == (4, 0.75, 0.5)
    assert (accuracy.irrelevant_recall, accuracy.irrelevant_precision) == (0.5, 0.5)
    assert accuracy.exact_by_mission == {"甲": 0.5, "乙": 0.5}


def test_nothing_to_measure_on_is_an_error():
    with pytest.raises(ValueError, match="no photo"):
        measure_accuracy([])


class OneAnswerEngine:
    """Says the same of every photo, and is cut off on every second one."""

    name = "one answer"

    def target_size(self, width, height, *, max_pixels):
        return 64, 48

    def generate(self, requests, options):
        return [
            Completion(request.id, "无关图片", "stop" if number % 2 == 0 else "length", 1, 1)
            for number, request in enumerate(requests)
        ]

    def trace_inputs(self, requests):
        return []

    def close(self):
        pass


def test_every_unbroken_photo_of_a_tree_is_read_once(tree):
    readings = read_tree(tree.root, OneAnswerEngine(), batch_size=7)
    assert len(readings) == len({reading.path for reading in readings}) == tree.photos - tree.broken
    assert {reading.defect for reading in readings} == {None, "cut at the longest length"}

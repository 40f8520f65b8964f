"""The missions' rules, case by case."""

from random import Random

import pytest

from stage_a_pipeline.demo.groups import SIZE_WEIGHTS, compose_group, draw_group_size
from stage_a_pipeline.demo.scenes import Scene, SceneObject
from stage_a_pipeline.demo.unseen import demo_missions
from stage_a_pipeline.demo.verdicts import RULES, Verdict, judge_group
from tests.demo.conftest import ALL_MISSIONS

BOX = (0.1, 0.1, 0.4, 0.4)
DEVICE = ("BBU设备", {"挡风板需求": "空间充足需安装"})
CLOSED = ("BBU设备", {"挡风板需求": "免装"})

CASES = [
    ("BBU安装方式检查（正装）", [DEVICE, ("BBU安装螺丝", {"符合性": "符合"})], ()),
    ("BBU安装方式检查（正装）", [DEVICE, ("BBU安装螺丝", {"符合性": "不符合"})], ("BBU安装螺丝不符合",)),
    ("BBU安装方式检查（正装）", [], ("未拍到BBU设备", "未拍到BBU安装螺丝")),
    ("BBU接地线检查", [("机柜处接地螺丝", {"符合性": "符合"}), ("地排处接地螺丝", {"符合性": "符合"})], ()),
    (
        "BBU接地线检查",
        [
            ("机柜处接地螺丝", {"符合性": "不符合"}),
            ("地排处接地螺丝", {"符合性": "符合"}),
            ("电线", {"捆扎": "散乱"}),
        ],
        ("机柜处接地螺丝不符合", "电线散乱"),
    ),
    (
        "BBU线缆布放",
        [
            ("BBU端光纤插头", {"符合性": "符合"}),
            ("光纤", {"保护措施": "无保护", "弯曲半径": "半径不合理<4cm或成环"}),
        ],
        ("未拍到ODF端光纤插头", "光纤无保护", "光纤弯曲半径不合理"),
    ),
    ("挡风板安装检查", [CLOSED], ()),
    ("挡风板安装检查", [DEVICE], ("需安装挡风板但未安装",)),
    ("挡风板安装检查", [DEVICE, ("挡风板", {"安装方向": "方向正确"})], ()),
    ("挡风板安装检查", [DEVICE, ("挡风板", {"安装方向": "方向错误"})], ("挡风板方向错误",)),
    ("挡风板安装检查", [DEVICE, DEVICE, ("挡风板", {"安装方向": "方向正确"})], ("需安装挡风板但未安装",)),
    ("RRU安装检查", [("RRU设备", {}), ("紧固件", {"安装状态": "合格"})], ()),
    ("RRU安装检查", [("紧固件", {"安装状态": "不合格"})], ("未拍到RRU设备", "紧固件不合格")),
    ("RRU位置检查", [("接地线", {"标签": "无标签"}), ("标签", {"文本": "LTE"})], ()),
    ("RRU位置检查", [("标签", {"可读性": "不可读"})], ("未拍到接地线", "标签不可读")),
    ("RRU线缆", [("尾纤", {"套管保护": "有套管"})], ()),
    ("RRU线缆", [("尾纤", {"套管保护": "有套管"}), ("尾纤", {"套管保护": "无套管"})], ("尾纤无套管",)),
    ("RRU接地检查", [("RRU接地端", {"安装状态": "合格"})], ()),
    ("RRU接地检查", [("地排接地端螺丝", {"安装状态": "合格"})], ("未拍到RRU接地端",)),
    (
        "RRU接地检查",
        [
            ("RRU接地端", {"安装状态": "合格"}),
            ("RRU接地端", {"安装状态": "不合格"}),
            ("地排接地端螺丝", {"安装状态": "不合格"}),
        ],
        ("RRU接地端不合格", "地排接地端螺丝不合格"),
    ),
    ("RRU接地检查", [("RRU接地端", {"安装状态": "合格"}), ("紧固件", {"安装状态": "不合格"})], ()),
    ("BBU布线检查", [("电线", {"捆扎": "整齐"}), ("光纤", {"弯曲半径": "半径不合理<4cm或成环"})], ()),
    ("BBU布线检查", [("光纤", {"保护措施": "无保护"})], ("未拍到电线", "光纤无保护")),
    ("BBU布线检查", [("电线", {"捆扎": "散乱"}), ("光纤", {"保护措施": "有保护"})], ("电线散乱",)),
]


def photos_of(mission, objects):
    """One photo per object, so that a rule has to look at the whole group."""
    dataset = demo_missions()[mission].dataset
    return [Scene(dataset, 0, (SceneObject(name, state, BOX),)) for name, state in objects]


@pytest.mark.parametrize(("mission", "objects", "reasons"), CASES)
def test_the_verdict_follows_from_what_the_group_shows(mission, objects, reasons):
    verdict = judge_group(demo_missions()[mission], photos_of(mission, objects))
    assert verdict == Verdict("fail" if reasons else "pass", reasons)


def test_every_mission_has_a_rule():
    assert set(RULES) == {mission.name for mission in ALL_MISSIONS}


@pytest.mark.parametrize("mission", ALL_MISSIONS, ids=lambda mission: mission.name)
@pytest.mark.parametrize("wanted", ["pass", "fail"])
@pytest.mark.parametrize("size", [1, 3, 38])
def test_groups_of_either_label_and_any_size_can_be_had(mission, wanted, size):
    rng = Random(2)
    groups = [compose_group(rng, mission, wanted=wanted, size=size) for _ in range(5)]
    assert {group.verdict.label for group in groups} == {wanted}
    assert {len(group.scenes) for group in groups} == {size}


def test_group_sizes_have_the_fields_proportions():
    rng = Random(0)
    sizes = sorted(draw_group_size(rng) for _ in range(20_000))
    assert sizes[len(sizes) // 2] == 3
    assert 3.1 < sum(sizes) / len(sizes) < 3.5
    assert (sizes[0], max(SIZE_WEIGHTS)) == (1, 38)

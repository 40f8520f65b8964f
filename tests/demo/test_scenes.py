"""Invented scenes, and the summaries that are true of them."""

import json
from random import Random

import pytest

from stage_a_pipeline.demo.composition import (
    COMPOSITIONS,
    MOST_OF_A_KIND,
    compose_scene,
    irrelevant_scene,
    reading_scene,
)
from stage_a_pipeline.demo.rendering.viewpoint import SHIFT
from stage_a_pipeline.demo.scenes import IRRELEVANT_KINDS, Scene, SceneObject
from stage_a_pipeline.demo.training.supervision import all_states
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.vocabulary import VOCABULARY
from tests.demo.conftest import ALL_MISSIONS, MISSIONS

BOX = (0.1, 0.1, 0.4, 0.4)
by_mission = pytest.mark.parametrize("mission", ALL_MISSIONS, ids=lambda mission: mission.name)


def scenes_of(mission, count=400):
    rng = Random(5)
    return [compose_scene(rng, mission, irrelevant_chance=0.05) for _ in range(count)]


def test_every_mission_has_a_composition():
    assert set(COMPOSITIONS) == {mission.name for mission in ALL_MISSIONS}


@by_mission
def test_every_true_summary_is_canonical_and_within_the_vocabulary(mission):
    defects = {summary_defect(scene.summary, mission.dataset) for scene in scenes_of(mission)}
    assert defects == {None}


@by_mission
def test_the_focus_of_a_mission_is_what_its_photos_show_most(mission):
    shown = [item.category for scene in scenes_of(mission) for item in scene.objects]
    for category in COMPOSITIONS[mission.name].focus:
        assert shown.count(category) > len(shown) / (2 * len(VOCABULARY[mission.dataset]))


@by_mission
def test_no_scene_holds_more_of_a_kind_than_can_be_told_apart(mission):
    for scene in scenes_of(mission):
        categories = [item.category for item in scene.objects]
        assert all(categories.count(name) <= MOST_OF_A_KIND for name in categories)


@by_mission
def test_scenes_without_faults_can_be_asked_for(mission):
    rng = Random(1)
    bad = {
        "不符合",
        "不合格",
        "散乱",
        "无保护",
        "方向错误",
        "不可读",
        "无套管",
        "无标签",
        "半径不合理<4cm或成环",
    }
    for _ in range(200):
        scene = compose_scene(rng, mission, sound_chance=1.0)
        assert not bad & {value for item in scene.objects for value in item.attributes.values()}


def test_the_same_generator_gives_the_same_scene():
    first, second = (compose_scene(Random(3), MISSIONS[0]) for _ in range(2))
    assert first == second
    assert first != compose_scene(Random(4), MISSIONS[0])


def test_every_category_attribute_and_value_that_can_be_shown_is_shown():
    seen = set()
    for mission in MISSIONS:
        for scene in scenes_of(mission, 600):
            for item in scene.objects:
                seen |= {(item.category, name, value) for name, value in item.attributes.items()}
                if not item.attributes:
                    seen.add((item.category, "", ""))
            seen |= {("备注", "", remark) for remark in scene.remarks}
    assert seen == set(all_states())


def test_the_states_are_every_category_attribute_and_value_of_the_vocabulary():
    known = set(all_states())
    for category in (category for categories in VOCABULARY.values() for category in categories):
        if not category.attributes:
            assert (category.name, "", "") in known
        for attribute in category.attributes:
            told = {value for name, key, value in known if (name, key) == (category.name, attribute.name)}
            assert told >= set(attribute.values)
            assert told


@by_mission
def test_an_object_is_partly_visible_where_it_is_cut_or_covered_and_only_there(mission):
    cuts = set()
    for scene in scenes_of(mission):
        for item in scene.objects:
            beyond = max(-item.box[0], -item.box[1], item.box[2] - 1, item.box[3] - 1)
            partly = item.attributes.get("可见性") == "部分"
            cut = beyond > 2 * SHIFT
            assert cut or beyond < -SHIFT
            assert partly == (cut or item.covered)
            cuts.add("cut" if cut else "covered" if item.covered else "whole")
    expected = {"cut", "covered", "whole"} if mission.dataset == "bbu" else {"whole"}
    assert cuts == expected


def test_two_devices_stand_one_above_the_other():
    devices = [
        [item for item in scene.objects if item.panel]
        for mission in MISSIONS[:4]
        for scene in scenes_of(mission)
    ]
    assert {len(found) for found in devices} == {0, 1, 2}
    for upper, lower in (found for found in devices if len(found) == 2):
        assert upper.panel.slot_box[3] < lower.panel.outline[1]
        assert lower.panel.slot_box[3] < 1


def test_numbered_groups_are_counted_per_category():
    def wire(number):
        return SceneObject("接地线", {"标签": "有标签", "组": number}, BOX)

    scene = Scene(
        "rru", 0, (wire("2"), wire("1"), wire("2"), SceneObject("标签", {"文本": "LTE", "组": "1"}, BOX))
    )
    assert json.loads(scene.summary) == {
        "统计": [
            {"类别": "接地线", "标签": {"有标签": 3}, "组": {"1": 1, "2": 2}},
            {"类别": "标签", "文本": {"LTE": 1}, "组": {"1": 1}},
        ],
        "分组统计": {"1": {"接地线": 1, "标签": 1}, "2": {"接地线": 2}},
    }


def test_a_remark_follows_the_counts():
    scene = Scene("bbu", 0, (SceneObject("电线", {"捆扎": "整齐"}, BOX),), remarks=("画面反光",))
    assert scene.summary == '{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}], "备注": ["画面反光"]}'


@pytest.mark.parametrize("dataset", ["bbu", "rru"])
def test_a_scene_for_reading_holds_labels_and_signs_alone(dataset):
    rng = Random(2)
    scenes = [reading_scene(rng, dataset) for _ in range(100)]
    shown = {item.category for scene in scenes for item in scene.objects}
    assert shown == ({"标签", "站点距离"} if dataset == "rru" else {"标签"})
    assert {len(scene.objects) for scene in scenes} == {2, 3, 4}


def test_every_kind_of_irrelevant_picture_occurs():
    rng = Random(0)
    kinds = {irrelevant_scene(rng, "bbu").irrelevant for _ in range(200)}
    assert kinds == set(IRRELEVANT_KINDS)


def test_an_irrelevant_scene_is_summarised_by_the_literal():
    assert irrelevant_scene(Random(0), "rru").summary == "无关图片"


def test_a_summary_counts_values_in_the_vocabularys_order():
    scene = Scene(
        "bbu",
        seed=0,
        objects=(
            SceneObject("标签", {"可读性": "不可读"}, BOX),
            SceneObject("BBU安装螺丝", {"符合性": "不符合"}, BOX),
            SceneObject("标签", {"文本": "LTE"}, BOX),
            SceneObject("BBU安装螺丝", {"符合性": "符合"}, BOX),
            SceneObject("BBU安装螺丝", {"符合性": "不符合"}, BOX),
        ),
    )
    assert scene.summary == (
        '{"统计": [{"类别": "BBU安装螺丝", "符合性": {"符合": 1, "不符合": 2}}, '
        '{"类别": "标签", "文本": {"LTE": 1}, "可读性": {"不可读": 1}}]}'
    )


def test_a_category_without_attributes_is_named_alone():
    scene = Scene("rru", seed=0, objects=(SceneObject("RRU设备", {}, BOX),))
    assert json.loads(scene.summary) == {"统计": [{"类别": "RRU设备"}]}

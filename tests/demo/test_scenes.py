"""Invented scenes, and the summaries that are true of them."""

import json
from random import Random

import pytest

from stage_a_pipeline.demo.composition import (
    COMPOSITIONS,
    MOST_OF_A_KIND,
    compose_scene,
    irrelevant_scene,
)
from stage_a_pipeline.demo.evaluate import summary_defect
from stage_a_pipeline.demo.scenes import IRRELEVANT_KINDS, Scene, SceneObject
from stage_a_pipeline.demo.supervision import all_states
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.vocabulary import VOCABULARY
from tests.demo.conftest import MISSION_NAMES, MISSIONS

BOX = (0.1, 0.1, 0.4, 0.4)
by_mission = pytest.mark.parametrize("mission", MISSIONS, ids=MISSION_NAMES)


def scenes_of(mission, count=400):
    rng = Random(5)
    return [compose_scene(rng, mission, irrelevant_chance=0.05) for _ in range(count)]


def test_every_packaged_mission_has_a_composition():
    assert set(COMPOSITIONS) == set(load_missions())


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
    assert seen == set(all_states())


def test_every_category_of_the_vocabulary_can_be_shown():
    shown = {category for category, _, _ in all_states()}
    assert shown == {category.name for categories in VOCABULARY.values() for category in categories}


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

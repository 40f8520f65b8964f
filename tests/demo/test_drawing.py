"""Pictures of scenes: repeatable, different where the truth differs, alike at every size."""

from random import Random

import pytest
from PIL import Image, ImageChops, ImageStat

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.drawing import draw_scene
from stage_a_pipeline.demo.scenes import (
    IRRELEVANT_KINDS,
    DevicePanel,
    Scene,
    SceneObject,
    shown_attributes,
    shown_values,
)
from stage_a_pipeline.vocabulary import VOCABULARY
from tests.demo.conftest import MISSIONS

SIZE = (256, 192)
BOX = (0.3, 0.3, 0.7, 0.7)
PANEL = DevicePanel((0.05, 0.05, 0.95, 0.35), "empty", (0.07, 0.4, 0.93, 0.6))


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of the channels, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean) / 3


def all_variants():
    for dataset, categories in VOCABULARY.items():
        for category in categories:
            plain = {item.name: shown_values(category, item)[0] for item in shown_attributes(category)}
            if category.name == "标签":
                plain = {"文本": "LTE"}
            for attribute in shown_attributes(category):
                if attribute.name in ("挡风板需求", "可见性"):
                    continue  # shown by the slot (see below) and by where the device stands
                for value in shown_values(category, attribute)[1:]:
                    yield dataset, category.name, plain, {**plain, attribute.name: value}


def scene_of(dataset, category, attributes, panel=PANEL):
    item = SceneObject(category, attributes, BOX, panel if category == "BBU设备" else None)
    return Scene(dataset, seed=8, objects=(item,))


def test_the_same_scene_gives_the_same_pixels():
    scene = compose_scene(Random(1), MISSIONS[0])
    assert draw_scene(scene, SIZE).tobytes() == draw_scene(scene, SIZE).tobytes()


@pytest.mark.parametrize("category", sorted({item.name for items in VOCABULARY.values() for item in items}))
def test_every_category_is_visible(category):
    dataset = "bbu" if any(item.name == category for item in VOCABULARY["bbu"]) else "rru"
    known = next(item for item in VOCABULARY[dataset] if item.name == category)
    attributes = {item.name: shown_values(known, item)[0] for item in shown_attributes(known)}
    with_object = draw_scene(scene_of(dataset, category, attributes), SIZE)
    assert distance(with_object, draw_scene(Scene(dataset, seed=8), SIZE)) > 1


@pytest.mark.parametrize(("dataset", "category", "one", "other"), list(all_variants()))
def test_every_value_changes_the_picture(dataset, category, one, other):
    first, second = (draw_scene(scene_of(dataset, category, state), SIZE) for state in (one, other))
    assert distance(first, second) > 0.1


def test_every_state_of_the_slot_looks_different():
    attributes = {"品牌": "华为", "可见性": "完整", "挡风板需求": "免装"}
    pictures = [
        draw_scene(
            scene_of("bbu", "BBU设备", attributes, DevicePanel(PANEL.outline, slot, PANEL.slot_box)), SIZE
        )
        for slot in ("empty", "filled", "right")
    ]
    for index, picture in enumerate(pictures):
        assert all(distance(picture, other) > 1 for other in pictures[index + 1 :])


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
def test_irrelevant_pictures_vary(kind):
    first, second = (draw_scene(Scene("bbu", seed, irrelevant=kind), SIZE) for seed in (1, 2))
    assert distance(first, second) > 1


@pytest.mark.parametrize("seed", range(6))
def test_a_large_photo_shrinks_to_about_what_the_model_was_trained_on(seed):
    scene = compose_scene(Random(seed), MISSIONS[seed])
    large = draw_scene(scene, (1280, 960)).resize(SIZE, Image.Resampling.BICUBIC)
    assert distance(large, draw_scene(scene, SIZE)) < 6


@pytest.mark.parametrize("size", [(1600, 900), (90, 160), (64, 64)])
def test_any_shape_can_be_drawn(size):
    for seed, mission in enumerate(MISSIONS):
        picture = draw_scene(compose_scene(Random(seed), mission), size)
        assert picture.size == size
        assert picture.mode == "RGB"

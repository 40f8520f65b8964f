"""Pictures of scenes: repeatable, different where the truth differs, alike at every size."""

from random import Random

import pytest
from PIL import Image, ImageChops, ImageStat

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.rendering.drawing import MOST_DRAWN_PIXELS, _draw_installation, draw_scene
from stage_a_pipeline.demo.rendering.viewpoint import Viewpoint
from stage_a_pipeline.demo.scenes import (
    DARK,
    GLARE,
    DevicePanel,
    Scene,
    SceneObject,
    rendered_values,
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
            plain = plain_state(category)
            for attribute in category.attributes:
                if attribute.name in ("挡风板需求", "可见性"):
                    continue  # shown by the slot (see below) and by where the device stands
                for value in rendered_values(category, attribute)[1:]:
                    yield dataset, category.name, plain, {**plain, attribute.name: value}


def plain_state(category):
    """The first value of every attribute; a label has a text, and no object a group."""
    if category.name == "标签":
        return {"文本": "LTE"}
    return {
        item.name: rendered_values(category, item)[0] for item in category.attributes if item.name != "组"
    }


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
    with_object = draw_scene(scene_of(dataset, category, plain_state(known)), SIZE)
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


def test_a_covered_object_looks_different():
    attributes = {"可见性": "部分", "符合性": "符合"}
    item = SceneObject("BBU安装螺丝", attributes, BOX)
    covered = SceneObject("BBU安装螺丝", attributes, BOX, covered=True)
    pictures = [draw_scene(Scene("bbu", 8, (shown,)), SIZE) for shown in (item, covered)]
    assert distance(*pictures) > 1


@pytest.mark.parametrize(("remark", "sign"), [(DARK, -1), (GLARE, 1)])
def test_a_remark_is_seen_in_the_light(remark, sign):
    plain, remarked = (
        draw_scene(Scene("bbu", seed=8, remarks=remarks), SIZE).convert("L") for remarks in ((), (remark,))
    )
    change = ImageStat.Stat(remarked).mean[0] - ImageStat.Stat(plain).mean[0]
    assert sign * change > 10


@pytest.mark.parametrize("seed", range(12))
def test_the_viewpoint_tells_where_an_object_is_seen(seed):
    """Wherever an object stands, the photo differs from one without it there, and nowhere else."""
    item = SceneObject("RRU接地端", {"安装状态": "合格"}, (0.3, 0.2, 0.6, 0.7))
    scene = Scene("rru", seed, (item,))
    width, height = SIZE
    bare = draw_bare(Scene("rru", seed))
    changed = (
        ImageChops.difference(draw_bare(scene), bare).convert("L").point(lambda level: 255 * (level > 8))
    )
    seen = Viewpoint.of(scene).seen(item.box)
    expected = (seen[0] * width, seen[1] * height, seen[2] * width, seen[3] * height)
    assert changed.getbbox() == pytest.approx(expected, abs=4)


def draw_bare(scene):
    """The scene in perspective, before light and lens."""
    return _draw_installation(scene, SIZE, Random(scene.seed))


@pytest.mark.parametrize("seed", range(6))
def test_a_large_photo_shrinks_to_about_what_the_model_was_trained_on(seed):
    scene = compose_scene(Random(seed), MISSIONS[seed])
    large = draw_scene(scene, (1280, 960)).resize(SIZE, Image.Resampling.BICUBIC)
    assert distance(large, draw_scene(scene, SIZE)) < 6


def test_a_photo_of_twelve_megapixels_is_drawn_smaller_and_has_its_size():
    scene = compose_scene(Random(3), MISSIONS[2])
    assert MOST_DRAWN_PIXELS < 4000 * 3000
    large = draw_scene(scene, (4000, 3000))
    assert large.size == (4000, 3000)
    assert distance(large.resize(SIZE, Image.Resampling.BICUBIC), draw_scene(scene, SIZE)) < 6


@pytest.mark.parametrize("size", [(1600, 900), (90, 160), (64, 64)])
def test_any_shape_can_be_drawn(size):
    for seed, mission in enumerate(MISSIONS):
        picture = draw_scene(compose_scene(Random(seed), mission), size)
        assert picture.size == size
        assert picture.mode == "RGB"

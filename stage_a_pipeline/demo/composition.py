"""Invented scenes, as the photos of each mission show them: dice, but no pixels.

The same random generator gives the same scene on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Final

from stage_a_pipeline.demo.device_scenes import compose_devices, screws_on_ears
from stage_a_pipeline.demo.scenes import (
    GROUP,
    GROUP_NUMBERS,
    IRRELEVANT_KINDS,
    LABEL_TEXTS,
    REMARK_TEXTS,
    VISIBILITY,
    Box,
    Remark,
    Scene,
    SceneObject,
    rendered_values,
)
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.vocabulary import VOCABULARY, Attribute, Dataset

MOST_OF_A_KIND: Final = 3
"""Counting further is beyond what a model of this size learns in an hour."""

PARTLY_CHANCE: Final = 0.25
"""Chance that a small object of a category with visibility is cut by the photo's edge or covered."""

WHOLE: Final = (0.035, 0.965)
"""Where whole objects lie: no viewpoint cuts them."""

_REMARK_CHANCE: Final = 0.1
_GROUP_CHANCE: Final = 0.35
_GROUPED: Final = ("尾纤", "接地线", "标签")
_CUT_SHARE: Final = (0.34, 0.42)


@dataclass(frozen=True, slots=True)
class Composition:
    """What a mission's photos show: categories in focus, how often a device fills the view, what else.

    `cell_chances` are the chances of room for one to four small objects, `repeat_chance` that of the same
    category again, `group_chance` that of numbered groups.
    """

    focus: tuple[str, ...]
    device_chance: float
    small: tuple[str, ...]
    cell_chances: tuple[float, ...] = (0.3, 0.4, 0.2, 0.1)
    repeat_chance: float = 0.3
    group_chance: float = _GROUP_CHANCE


_BBU_SMALL = (
    "BBU安装螺丝",
    "BBU端光纤插头",
    "ODF端光纤插头",
    "机柜处接地螺丝",
    "地排处接地螺丝",
    "光纤",
    "电线",
    "标签",
)
_RRU_SMALL = (
    "RRU设备",
    "站点距离",
    "紧固件",
    "RRU接地端",
    "地排接地端螺丝",
    "尾纤",
    "接地线",
    "标签",
)

COMPOSITIONS: Final[Mapping[str, Composition]] = MappingProxyType(
    {
        "BBU安装方式检查（正装）": Composition(("BBU安装螺丝",), 0.75, _BBU_SMALL),
        "BBU接地线检查": Composition(("机柜处接地螺丝", "地排处接地螺丝", "电线"), 0.15, _BBU_SMALL),
        "BBU线缆布放": Composition(("BBU端光纤插头", "ODF端光纤插头", "光纤"), 0.2, _BBU_SMALL),
        "挡风板安装检查": Composition(("标签", "电线", "挡风板"), 0.8, (*_BBU_SMALL, "挡风板")),
        "RRU安装检查": Composition(("RRU设备", "紧固件"), 0.0, _RRU_SMALL),
        "RRU位置检查": Composition(("紧固件", "接地线", "标签", "站点距离"), 0.0, _RRU_SMALL),
        "RRU线缆": Composition(("尾纤",), 0.0, _RRU_SMALL),
        # The unseen ones of unseen_missions.toml: nothing is trained on their photos.
        "BBU布线检查": Composition(("电线", "光纤"), 0.2, _BBU_SMALL),
        "RRU接地检查": Composition(("RRU接地端", "地排接地端螺丝"), 0.0, _RRU_SMALL),
    }
)


def compose_scene(
    rng: Random,
    mission: Mission,
    *,
    irrelevant_chance: float = 0.0,
    sound_chance: float = 0.58,
    composition: Composition | None = None,
) -> Scene:
    """A scene as a mission's photos show it, or as another composition says.

    `sound_chance` is the chance of every attribute that can be a fault to have its good value.
    """
    if rng.random() < irrelevant_chance:
        return irrelevant_scene(rng, mission.dataset)
    composition = composition or COMPOSITIONS[mission.name]
    objects: list[SceneObject] = []
    if rng.random() < composition.device_chance:
        objects, cells = _device_view(rng, composition, sound_chance)
        small = tuple(name for name in composition.small if name != "挡风板")
        composition, fill = replace(composition, small=small), (0.86, 0.96)
    else:
        cells, fill = _free_cells(rng, composition.cell_chances), (0.84, 0.98)
    for cell in cells:
        category = _pick_category(rng, composition, [item.category for item in objects])
        attributes = pick_attributes(rng, mission.dataset, category, sound_chance)
        objects.append(_place(rng, category, attributes, cell, fill))
    if mission.dataset == "rru":
        objects = _number_groups(rng, objects, composition.group_chance)
    remarks = _pick_remarks(rng) if mission.dataset == "bbu" else ()
    return Scene(mission.dataset, rng.randrange(1 << 30), tuple(objects), remarks=remarks)


def irrelevant_scene(rng: Random, dataset: Dataset) -> Scene:
    """A picture that shows no installation."""
    kind = rng.choice(IRRELEVANT_KINDS)
    return Scene(dataset, rng.randrange(1 << 30), irrelevant=kind)


def reading_scene(rng: Random, dataset: Dataset) -> Scene:
    """A view full of labels and distance signs, as no mission's photos show it: for practice in reading."""
    objects = []
    for cell in _free_cells(rng, (0, 1, 2, 4)):
        category = "站点距离" if dataset == "rru" and rng.random() < 0.5 else "标签"
        attributes = pick_attributes(rng, dataset, category, 0.9)
        objects.append(_place(rng, category, attributes, cell, (0.84, 0.98)))
    if dataset == "rru":
        objects = _number_groups(rng, objects, _GROUP_CHANCE)
    return Scene(dataset, rng.randrange(1 << 30), tuple(objects))


def pick_attributes(rng: Random, dataset: Dataset, name: str, sound_chance: float) -> dict[str, str]:
    """A state for an object of that category, its group left out."""
    if name == "标签":
        readable = rng.random() < sound_chance
        return {"文本": rng.choice(LABEL_TEXTS)} if readable else {"可读性": "不可读"}
    category = next(item for item in VOCABULARY[dataset] if item.name == name)
    return {
        attribute.name: _pick_value(rng, rendered_values(category, attribute), attribute, sound_chance)
        for attribute in category.attributes
        if attribute.name != GROUP
    }


def _pick_value(rng: Random, values: Sequence[str], attribute: Attribute, sound_chance: float) -> str:
    if attribute.name == VISIBILITY:
        return values[1] if rng.random() < PARTLY_CHANCE else values[0]
    if attribute.name == "品牌" or not attribute.values:
        return rng.choice(values)
    return values[0] if rng.random() < sound_chance else rng.choice(values[1:])


def _device_view(
    rng: Random, composition: Composition, sound_chance: float
) -> tuple[list[SceneObject], list[Box]]:
    """One device with room for small objects below it, or two that fill the view."""
    objects = compose_devices(rng, sound_chance=sound_chance, partly_chance=PARTLY_CHANCE)
    devices = [item for item in objects if item.panel is not None]
    if rng.random() < (0.85 if "BBU安装螺丝" in composition.focus else 0.35):
        bearer = rng.choice(devices)
        states = [pick_attributes(rng, "bbu", "BBU安装螺丝", sound_chance) for _ in range(2)]
        objects += screws_on_ears(bearer, states)
    if len(devices) > 1:
        return objects, []
    return objects, _cells_below(rng, devices[0])


def _cells_below(rng: Random, device: SceneObject) -> list[Box]:
    assert device.panel is not None
    top = device.panel.slot_box[3] + 0.02
    count = rng.choices([0, 1, 2], [0.4, 0.42, 0.18])[0]
    return rng.sample([(0.0, top, 0.5, 1.0), (0.5, top, 1.0, 1.0)], count)


def _free_cells(rng: Random, chances: Sequence[float]) -> list[Box]:
    """One large cell, two halves side by side or one above the other, or quarters, by their chances."""
    count = rng.choices([1, 2, 3, 4], chances)[0]
    if count == 1:
        x, y = rng.uniform(0, 0.42), rng.uniform(0, 0.42)
        return [(x, y, x + 0.58, y + 0.58)]
    if count == 2 and rng.random() < 0.6:
        first, second = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
        if rng.random() < 0.5:
            return [(0.0, first, 0.5, first + 0.5), (0.5, second, 1.0, second + 0.5)]
        return [(first, 0.0, first + 0.5, 0.5), (second, 0.5, second + 0.5, 1.0)]
    quarters = [(x, y, x + 0.5, y + 0.5) for x in (0.0, 0.5) for y in (0.0, 0.5)]
    return rng.sample(quarters, count)


def _pick_category(rng: Random, composition: Composition, taken: Sequence[str]) -> str:
    """Often the same again or one in focus; never more of a kind than can be told apart."""
    once = ("RRU设备", "站点距离", "挡风板")
    free = [name for name in composition.small if taken.count(name) < (1 if name in once else MOST_OF_A_KIND)]
    if taken and taken[-1] in free and rng.random() < composition.repeat_chance:
        return taken[-1]
    focus = [name for name in composition.focus if name in free]
    return rng.choice(focus) if focus and rng.random() < 0.6 else rng.choice(free)


def _place(
    rng: Random, category: str, attributes: Mapping[str, str], cell: Box, fill: tuple[float, float]
) -> SceneObject:
    """The object in its cell; one that is partly visible is cut by the photo's edge, or covered."""
    box = _box_within(rng, cell, rng.uniform(*fill))
    if attributes.get(VISIBILITY) != "部分":
        return SceneObject(category, attributes, box)
    edges = [side for side, edge in enumerate(cell) if edge == (0.0 if side < 2 else 1.0)]
    if not edges or rng.random() < 0.35:
        return SceneObject(category, attributes, box, covered=True)
    return SceneObject(category, attributes, _cut(box, rng.choice(edges), rng.uniform(*_CUT_SHARE)))


def _box_within(rng: Random, cell: Box, share: float) -> Box:
    """A box that fills this share of the cell's width and height, where no viewpoint cuts it."""
    (left, top, right, bottom), (low, high) = cell, WHOLE
    left, top, right, bottom = max(left, low), max(top, low), min(right, high), min(bottom, high)
    width, height = (right - left) * share, (bottom - top) * share
    x, y = left + rng.uniform(0, right - left - width), top + rng.uniform(0, bottom - top - height)
    return (x, y, x + width, y + height)


def _cut(box: Box, side: int, share: float) -> Box:
    """The box moved over a side of the view (left, top, right, bottom), so that a share of it is out."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if side in (0, 2):
        x = -share * width if side == 0 else 1 - (1 - share) * width
        return (x, top, x + width, bottom)
    y = -share * height if side == 1 else 1 - (1 - share) * height
    return (left, y, right, y + height)


def _number_groups(rng: Random, objects: Sequence[SceneObject], chance: float) -> list[SceneObject]:
    """In some photos, round tags with one or two numbers on everything that bears such tags."""
    if rng.random() >= chance:
        return list(objects)
    numbers = rng.sample(GROUP_NUMBERS, rng.choice([1, 2]))
    return [
        replace(item, attributes={**item.attributes, GROUP: rng.choice(numbers)})
        if item.category in _GROUPED
        else item
        for item in objects
    ]


def _pick_remarks(rng: Random) -> tuple[Remark, ...]:
    return (rng.choice(REMARK_TEXTS),) if rng.random() < _REMARK_CHANCE else ()

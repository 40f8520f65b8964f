"""Invented scenes, as the photos of each mission show them: dice, but no pixels.

The same random generator gives the same scene on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

from stage_a_pipeline.demo.scenes import (
    IRRELEVANT_KINDS,
    LABEL_TEXTS,
    Box,
    DevicePanel,
    Scene,
    SceneObject,
    SlotState,
    shown_attributes,
    shown_values,
)
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.vocabulary import VOCABULARY, Attribute, Dataset

MOST_OF_A_KIND: Final = 2
"""Counting further is beyond what a model of this size learns in half an hour."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What a mission's photos show: categories in focus, how often a device fills the view, what else."""

    focus: tuple[str, ...]
    device_chance: float
    small: tuple[str, ...]


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
        "挡风板安装检查": Composition(("标签", "电线"), 0.85, _BBU_SMALL),
        "RRU安装检查": Composition(("RRU设备", "紧固件"), 0.0, _RRU_SMALL),
        "RRU位置检查": Composition(("紧固件", "接地线", "标签"), 0.0, _RRU_SMALL),
        "RRU线缆": Composition(("尾纤",), 0.0, _RRU_SMALL),
    }
)


def compose_scene(
    rng: Random, mission: Mission, *, irrelevant_chance: float = 0.0, sound_chance: float = 0.58
) -> Scene:
    """A scene as a mission's photos show it.

    `sound_chance` is the chance of every attribute to have its good (first) value.
    """
    if rng.random() < irrelevant_chance:
        return irrelevant_scene(rng, mission.dataset)
    composition = COMPOSITIONS[mission.name]
    objects: list[SceneObject] = []
    if rng.random() < composition.device_chance:
        device = _device(rng, sound_chance)
        objects += device
        objects += _screws_on_ears(rng, device[0], "BBU安装螺丝" in composition.focus, sound_chance)
        cells, fill = _cells_below(rng, device[0]), (0.84, 0.96)
    else:
        cells, fill = _free_cells(rng), (0.8, 0.96)
    for cell in cells:
        category = _pick_category(rng, composition, [item.category for item in objects])
        attributes = _pick_attributes(rng, mission.dataset, category, sound_chance)
        objects.append(SceneObject(category, attributes, _place(rng, cell, fill)))
    return Scene(mission.dataset, rng.randrange(1 << 30), tuple(objects))


def irrelevant_scene(rng: Random, dataset: Dataset) -> Scene:
    """A picture that shows no installation."""
    kind = rng.choice(IRRELEVANT_KINDS)
    return Scene(dataset, rng.randrange(1 << 30), irrelevant=kind)


def _device(rng: Random, sound_chance: float) -> list[SceneObject]:
    """A BBU across the upper half, with the slot below it and, when one is fitted, its deflector."""
    top = rng.uniform(0.03, 0.08)
    bottom = top + rng.uniform(0.27, 0.31)
    left, right = 0.05, 0.95
    partly = rng.random() < 0.3
    if partly:
        shift = rng.choice([-1, 1]) * rng.uniform(0.28, 0.38)
        left, right = left + shift, right + shift
    sound = rng.random() < sound_chance
    slot: SlotState = rng.choice(("right", "filled")) if sound else rng.choice(("wrong", "empty"))
    slot_top = bottom + 0.015
    slot_box = (0.07, slot_top, 0.93, slot_top + rng.uniform(0.19, 0.22))
    attributes = {
        "品牌": rng.choice(("华为", "中兴", "爱立信")),
        "可见性": "部分" if partly else "完整",
        "挡风板需求": "免装" if slot == "filled" else "空间充足需安装",
    }
    panel = DevicePanel((left, top, right, bottom), slot, slot_box)
    visible = (max(0.0, left), top, min(1.0, right), bottom)
    objects = [SceneObject("BBU设备", attributes, visible, panel)]
    if slot in ("right", "wrong"):
        direction = "方向正确" if slot == "right" else "方向错误"
        objects.append(SceneObject("挡风板", {"安装方向": direction}, slot_box))
    return objects


def _screws_on_ears(
    rng: Random, device: SceneObject, in_focus: bool, sound_chance: float
) -> list[SceneObject]:
    assert device.panel is not None
    if rng.random() >= (0.85 if in_focus else 0.35):
        return []
    left, top, right, bottom = device.panel.outline
    middle, reach = (top + bottom) / 2, 0.085
    screws = []
    for x in (left + 0.075, right - 0.075):
        if 0.06 < x < 0.94:
            attributes = _pick_attributes(rng, "bbu", "BBU安装螺丝", sound_chance)
            box = (x - reach, middle - reach, x + reach, middle + reach)
            screws.append(SceneObject("BBU安装螺丝", attributes, box, mounted=True))
    return screws


def _cells_below(rng: Random, device: SceneObject) -> list[Box]:
    assert device.panel is not None
    top = device.panel.slot_box[3] + 0.02
    count = rng.choices([0, 1, 2], [0.45, 0.4, 0.15])[0]
    return rng.sample([(0.0, top, 0.5, 1.0), (0.5, top, 1.0, 1.0)], count)


def _free_cells(rng: Random) -> list[Box]:
    """One large cell, two halves side by side or one above the other, or quarters."""
    count = rng.choices([1, 2, 3, 4], [0.3, 0.4, 0.2, 0.1])[0]
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
    once = ("RRU设备", "站点距离")
    free = [name for name in composition.small if taken.count(name) < (1 if name in once else MOST_OF_A_KIND)]
    if taken and taken[-1] in free and rng.random() < 0.3:
        return taken[-1]
    focus = [name for name in composition.focus if name in free]
    return rng.choice(focus) if focus and rng.random() < 0.6 else rng.choice(free)


def _pick_attributes(rng: Random, dataset: Dataset, name: str, sound_chance: float) -> dict[str, str]:
    if name == "标签":
        readable = rng.random() < sound_chance
        return {"文本": rng.choice(LABEL_TEXTS)} if readable else {"可读性": "不可读"}
    category = next(item for item in VOCABULARY[dataset] if item.name == name)
    return {
        attribute.name: _pick_value(rng, shown_values(category, attribute), attribute, sound_chance)
        for attribute in shown_attributes(category)
    }


def _pick_value(rng: Random, values: Sequence[str], attribute: Attribute, sound_chance: float) -> str:
    if not attribute.values:
        return rng.choice(values)
    return values[0] if rng.random() < sound_chance else rng.choice(values[1:])


def _place(rng: Random, cell: Box, fill: tuple[float, float]) -> Box:
    left, top, right, bottom = cell
    share = rng.uniform(*fill)
    width, height = (right - left) * share, (bottom - top) * share
    x, y = left + rng.uniform(0, right - left - width), top + rng.uniform(0, bottom - top - height)
    return (x, y, x + width, y + height)

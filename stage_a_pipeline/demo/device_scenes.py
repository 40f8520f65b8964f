"""Where BBU devices, their slots, deflectors and mounting screws lie in a view that they fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from stage_a_pipeline.demo.scenes import VISIBILITY, Box, DevicePanel, SceneObject, SlotState

BRANDS: Final = ("华为", "中兴", "爱立信")
EAR_SHARE: Final = 0.15
"""Width of a device's ear, in widths of the view."""

_SECOND_DEVICE_CHANCE: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Place:
    """Heights for one device, in heights of the view: where it begins, its own, and its slot's."""

    top: tuple[float, float]
    device: tuple[float, float]
    slot: tuple[float, float]


_ALONE: Final = _Place((0.04, 0.08), (0.27, 0.3), (0.19, 0.21))
_UPPER: Final = _Place((0.04, 0.06), (0.21, 0.23), (0.15, 0.16))
_LOWER: Final = _Place((0.5, 0.52), (0.21, 0.23), (0.15, 0.16))


def compose_devices(rng: Random, *, sound_chance: float, partly_chance: float) -> list[SceneObject]:
    """One device across the upper half, or two below one another, each with its slot and deflector."""
    places = [_UPPER, _LOWER] if rng.random() < _SECOND_DEVICE_CHANCE else [_ALONE]
    objects: list[SceneObject] = []
    for place in places:
        objects += _compose_device(rng, place, sound_chance, partly_chance)
    return objects


def screws_on_ears(device: SceneObject, states: Sequence[Mapping[str, str]]) -> list[SceneObject]:
    """Screws on those of a device's ears that are in view; a partly visible screw is covered."""
    assert device.panel is not None
    left, top, right, bottom = device.panel.outline
    middle, reach = (top + bottom) / 2, 0.29 * (bottom - top)
    screws = []
    for x, state in zip((left + EAR_SHARE / 2, right - EAR_SHARE / 2), states, strict=True):
        if 0.08 < x < 0.92:
            box = (x - reach, middle - reach, x + reach, middle + reach)
            covered = state[VISIBILITY] == "部分"
            screws.append(SceneObject("BBU安装螺丝", state, box, mounted=True, covered=covered))
    return screws


def _compose_device(
    rng: Random, place: _Place, sound_chance: float, partly_chance: float
) -> list[SceneObject]:
    top = rng.uniform(*place.top)
    bottom = top + rng.uniform(*place.device)
    partly = rng.random() < partly_chance
    shift = rng.choice([-1, 1]) * rng.uniform(0.28, 0.38) if partly else 0.0
    sound = rng.random() < sound_chance
    slot: SlotState = rng.choice(("right", "filled")) if sound else rng.choice(("wrong", "empty"))
    slot_top = bottom + 0.015
    slot_box = (0.07 + shift, slot_top, 0.93 + shift, slot_top + rng.uniform(*place.slot))
    outline = (0.05 + shift, top, 0.95 + shift, bottom)
    attributes = {
        "品牌": rng.choice(BRANDS),
        VISIBILITY: "部分" if partly else "完整",
        "挡风板需求": "免装" if slot == "filled" else "空间充足需安装",
    }
    objects = [SceneObject("BBU设备", attributes, outline, DevicePanel(outline, slot, slot_box))]
    if slot in ("right", "wrong"):
        objects.append(_deflector(rng, attributes["品牌"], slot_box, slot == "right", partly, partly_chance))
    return objects


def _deflector(
    rng: Random, brand: str, box: Box, right_way: bool, cut: bool, partly_chance: float
) -> SceneObject:
    """Mostly of the device's brand; cut off with its device, or covered on its own."""
    covered = not cut and rng.random() < partly_chance
    attributes = {
        "品牌": brand if rng.random() < 0.8 else rng.choice(BRANDS),
        VISIBILITY: "部分" if cut or covered else "完整",
        "安装方向": "方向正确" if right_way else "方向错误",
    }
    return SceneObject("挡风板", attributes, box, covered=covered)

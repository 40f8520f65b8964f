"""Synthetic close-ups of installations as truth without pixels: what is in view, where, in which state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from stage_a_pipeline.vocabulary import (
    CATEGORY,
    IRRELEVANT,
    STATISTICS,
    VOCABULARY,
    Attribute,
    Category,
    Dataset,
)

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in fractions of the picture."""

IrrelevantKind = Literal["street", "document", "drawing", "chat", "portrait", "noise"]
IRRELEVANT_KINDS: Final[tuple[IrrelevantKind, ...]] = (
    "street",
    "document",
    "drawing",
    "chat",
    "portrait",
    "noise",
)

SlotState = Literal["right", "wrong", "empty", "filled"]
"""The slot below a device: a deflector the right or wrong way round, nothing, or other equipment."""

LABEL_TEXTS: Final = ("LTE", "NR5G", "ODF2", "GND")
DISTANCES: Final = ("8", "15", "36", "72")
"""The texts that rendered labels and distance signs bear: closed lists, where the vocabulary is open."""

_NOT_SHOWN: Final = frozenset({"组"})
_SHOWN_FOR_DEVICES_ONLY: Final = frozenset({"品牌", "可见性"})
"""Attributes of the vocabulary that pictures do not show (yet); summaries leave them out."""


@dataclass(frozen=True, slots=True)
class DevicePanel:
    """A BBU's whole outline, which may leave the picture, and the slot below it."""

    outline: Box
    slot: SlotState
    slot_box: Box


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object in view. `panel` is there for BBU devices, `mounted` for screws on a device's ears."""

    category: str
    attributes: Mapping[str, str]
    box: Box
    panel: DevicePanel | None = None
    mounted: bool = False

    def shows(self, category: str, attribute: str, value: str) -> bool:
        """Whether this is such an object in that state."""
        return self.category == category and self.attributes.get(attribute) == value


@dataclass(frozen=True, slots=True)
class Scene:
    """One photo's truth. `seed` drives everything that only pixels have: colours, noise, lighting."""

    dataset: Dataset
    seed: int
    objects: tuple[SceneObject, ...] = ()
    irrelevant: IrrelevantKind | None = None

    @property
    def summary(self) -> str:
        """The one correct summary line."""
        if self.irrelevant is not None:
            return IRRELEVANT
        entries = [
            _count(category, members)
            for category in VOCABULARY[self.dataset]
            if (members := [item for item in self.objects if item.category == category.name])
        ]
        return json.dumps({STATISTICS: entries}, ensure_ascii=False)


def shown_attributes(category: Category) -> tuple[Attribute, ...]:
    """The attributes of a category that rendered pictures show."""
    hidden = _NOT_SHOWN if category.name == "BBU设备" else _NOT_SHOWN | _SHOWN_FOR_DEVICES_ONLY
    return tuple(attribute for attribute in category.attributes if attribute.name not in hidden)


def shown_values(category: Category, attribute: Attribute) -> tuple[str, ...]:
    """The values that rendered pictures show: the vocabulary's, or the closed list for free texts."""
    if attribute.values:
        return attribute.values
    return DISTANCES if category.name == "站点距离" else LABEL_TEXTS


def _count(category: Category, members: Sequence[SceneObject]) -> dict[str, object]:
    entry: dict[str, object] = {CATEGORY: category.name}
    for attribute in shown_attributes(category):
        seen = [item.attributes.get(attribute.name) for item in members]
        counts = {value: seen.count(value) for value in shown_values(category, attribute) if value in seen}
        if counts:
            entry[attribute.name] = counts
    return entry

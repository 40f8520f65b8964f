"""Synthetic close-ups of installations as truth without pixels: what is in view, where, in which state."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from stage_a_pipeline.vocabulary import (
    CATEGORY,
    GROUP_STATISTICS,
    IRRELEVANT,
    REMARKS,
    STATISTICS,
    VOCABULARY,
    Attribute,
    Category,
    Dataset,
)

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in fractions of the view. What lies beyond 0 and 1 is out of the photo."""

IrrelevantKind = Literal["street", "sky", "document", "drawing", "chat", "portrait", "noise", "photograph"]
IRRELEVANT_KINDS: Final[tuple[IrrelevantKind, ...]] = (
    "street",
    "sky",
    "document",
    "drawing",
    "chat",
    "portrait",
    "noise",
    "photograph",
)

SlotState = Literal["right", "wrong", "empty", "filled"]
"""The slot below a device: a deflector the right or wrong way round, nothing, or other equipment."""

LABEL_TEXTS: Final = ("LTE", "NR5G", "ODF2", "GND", "BBU1", "RRU3", "CPRI", "DC48")
DISTANCES: Final = ("8", "15", "23", "36", "40", "51", "72", "96")
"""The texts that rendered labels and distance signs bear: closed lists, where the vocabulary is open."""

GROUP_NUMBERS: Final = ("1", "2", "3")
"""Numbers on the round tags by which crews tell sectors apart: the attribute 组."""

GROUP: Final = "组"
VISIBILITY: Final = "可见性"

Remark = Literal["光线昏暗", "画面反光"]
DARK: Final[Remark] = "光线昏暗"
GLARE: Final[Remark] = "画面反光"
REMARK_TEXTS: Final[tuple[Remark, ...]] = (DARK, GLARE)
"""What summaries of bbu photos remark on; the specification leaves the texts open."""


@dataclass(frozen=True, slots=True)
class DevicePanel:
    """A BBU's whole outline, which may leave the view, and the slot below it."""

    outline: Box
    slot: SlotState
    slot_box: Box


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object in view.

    `panel` is there for BBU devices, `mounted` for screws on a device's ears; `covered` objects are
    partly hidden by a hand in a glove.
    """

    category: str
    attributes: Mapping[str, str]
    box: Box
    panel: DevicePanel | None = None
    mounted: bool = False
    covered: bool = False

    def shows(self, category: str, attribute: str, value: str) -> bool:
        """Whether this is such an object in that state."""
        return self.category == category and self.attributes.get(attribute) == value


@dataclass(frozen=True, slots=True)
class Scene:
    """One photo's truth. `seed` drives everything that only pixels have: colours, viewpoint, lighting."""

    dataset: Dataset
    seed: int
    objects: tuple[SceneObject, ...] = ()
    irrelevant: IrrelevantKind | None = None
    remarks: tuple[Remark, ...] = ()

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
        line: dict[str, object] = {STATISTICS: entries}
        if self.remarks:
            line[REMARKS] = list(self.remarks)
        if groups := dict(self._count_groups()):
            line[GROUP_STATISTICS] = groups
        return json.dumps(line, ensure_ascii=False)

    def _count_groups(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Per group number how many objects of each category bear it, in the vocabulary's order."""
        for number in GROUP_NUMBERS:
            seen = Counter(item.category for item in self.objects if item.attributes.get(GROUP) == number)
            if seen:
                order = (category.name for category in VOCABULARY[self.dataset])
                yield number, {name: seen[name] for name in order if name in seen}


def rendered_values(category: Category, attribute: Attribute) -> tuple[str, ...]:
    """The values that pictures show: the vocabulary's, or a closed list where it leaves them open."""
    if attribute.values:
        return attribute.values
    if attribute.name == GROUP:
        return GROUP_NUMBERS
    return DISTANCES if category.name == "站点距离" else LABEL_TEXTS


def _count(category: Category, members: Sequence[SceneObject]) -> dict[str, object]:
    entry: dict[str, object] = {CATEGORY: category.name}
    for attribute in category.attributes:
        seen = Counter(item.attributes.get(attribute.name) for item in members)
        counts = {value: seen[value] for value in rendered_values(category, attribute) if seen[value]}
        if counts:
            entry[attribute.name] = counts
    return entry

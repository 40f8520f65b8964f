"""What differs between two runs, group by group, as the page of changes shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from stage_a_pipeline.records import Label
from stage_a_pipeline.run_comparison.comparison import MissionComparison, RejectionChange
from stage_a_pipeline.run_comparison.group_changes import GroupChange, SummaryChange
from stage_a_pipeline.run_comparison.sides import AbsenceCause, LoneGroup

ItemKind = Literal[
    "lost", "gained", "label", "photos", "fail_reasons", "rejection", "content", "wording", "text"
]
"""What may differ in a group, in the order in which a page offers it."""


State = Literal["lost", "gained", "both"]


@dataclass(slots=True)
class ChangeItem:
    """One group in which something differs: at most one of `alone` and `change`, and any rejections."""

    group_id: str
    label: Label
    state: State = "both"
    alone: LoneGroup | None = None
    change: GroupChange | None = None
    rejections: list[RejectionChange] = field(default_factory=list)

    @property
    def cause(self) -> AbsenceCause | None:
        """Why one run does not have the group."""
        return self.alone.cause if self.alone is not None else None

    @property
    def summaries(self) -> tuple[SummaryChange, ...]:
        """The photos whose summary changed."""
        return self.change.summaries if self.change is not None else ()

    @property
    def photo_names(self) -> list[str]:
        """Every photo that is told of, once."""
        change = self.change
        names = [one.image for one in self.summaries]
        names += [one.image for one in self.rejections]
        names += [] if change is None else [*change.photos_lost, *change.photos_gained]
        names += self.alone.photos if self.alone is not None else ()
        return list(dict.fromkeys(names))

    @property
    def kinds(self) -> list[ItemKind]:
        """What differs, in the order of ItemKind."""
        change = self.change
        told: Mapping[ItemKind, object] = {
            "lost": self.state == "lost",
            "gained": self.state == "gained",
            "label": change is not None and change.label_changed,
            "photos": change is not None and (change.photos_gained or change.photos_lost),
            "fail_reasons": change is not None and change.fail_reasons_changed,
            "rejection": self.rejections,
        }
        found = [kind for kind, there in told.items() if there]
        kinds: Iterable[ItemKind] = ("content", "wording", "text")
        return found + [kind for kind in kinds if any(one.kind == kind for one in self.summaries)]


def change_items(one: MissionComparison) -> Iterator[ChangeItem]:
    """Lost groups, gained ones, changed ones, and last those in which only a photo's rejection differs."""
    rejections: dict[tuple[str, Label], list[RejectionChange]] = {}
    for rejection in one.rejections:
        rejections.setdefault((rejection.group_id, rejection.label), []).append(rejection)

    for state, groups in (("lost", one.lost), ("gained", one.gained)):
        for group in groups:
            found = rejections.pop((group.group_id, group.label), [])
            yield ChangeItem(group.group_id, group.label, cast("State", state), group, None, found)
    for change in one.changed:
        found = rejections.pop((change.group_id, change.label_after), [])
        yield ChangeItem(change.group_id, change.label_after, "both", None, change, found)
    for (group_id, label), found in rejections.items():
        yield ChangeItem(group_id, label, rejections=found)

"""What a demo tree will hold, decided before anything is drawn or written.

Every mission is planned from the seed and its own name, so that its photos do not depend on which
other missions are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from stage_a_pipeline.demo.composition import irrelevant_scene
from stage_a_pipeline.demo.groups import SceneGroup, compose_group, draw_group_size
from stage_a_pipeline.demo.photos import DAMAGES, Photo, plan_photo
from stage_a_pipeline.demo.scenes import Scene
from stage_a_pipeline.demo.verdicts import Verdict, judge_group
from stage_a_pipeline.discovery import LABEL_FOLDERS
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.records import LABELS, Label

_FOLDER_OF_LABEL: Final = {label: folder for folder, label in LABEL_FOLDERS.items()}
RESUBMITTED_SHARE: Final = 0.02
FEWEST_GROUPS_TO_RESUBMIT: Final = 4
STEM_ID_SHARE: Final = 1 / 3
"""Share of tickets whose id stands in the photos' names rather than in the folder's."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket's invented number. With `id_in_stem`, photos are named by an id of their own form."""

    day: str
    number: int
    id_in_stem: bool

    @property
    def folder(self) -> str:
        return f"QC-{self.day}-{self.number:07d}"

    @property
    def group_id(self) -> str:
        """The id under which discovery knows the group."""
        return f"QC-TEMP-{self.day}-{self.number:07d}" if self.id_in_stem else self.folder

    def photo_name(self, position: int) -> str:
        return f"{self.group_id}_{position}.jpg" if self.id_in_stem else f"IMG_{position}.jpg"


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """One group folder: its verdict follows from its photos by the mission's rule.

    `mislabelled` groups lie in the other label's folder, as if the reviewers had erred.
    """

    mission: Mission
    ticket: Ticket
    verdict: Verdict
    photos: tuple[tuple[str, Photo], ...]
    resubmitted: bool = False
    mislabelled: bool = False

    @property
    def label(self) -> Label:
        """The label that the reviewers gave."""
        if not self.mislabelled:
            return self.verdict.label
        return "pass" if self.verdict.label == "fail" else "fail"

    @property
    def folder(self) -> str:
        """The group's folder below the root, with forward slashes."""
        return f"{self.mission.name}/{_FOLDER_OF_LABEL[self.label]}/{self.ticket.folder}"


def plan_tree(
    missions: Sequence[Mission], *, groups: int, seed: int, broken: int, label_noise: float = 0.0
) -> list[PlannedGroup]:
    """`groups` groups per mission, an irrelevant photo at least, `broken` broken ones in distinct groups.

    `label_noise` is the share of each mission's groups that lie under the wrong label; a resubmitted
    ticket keeps its two labels.
    """
    planned = [group for mission in missions for group in _plan_mission(mission, groups, seed, label_noise)]
    rng = Random(f"{seed}/tree")
    if not any(photo.scene.irrelevant for group in planned for _, photo in group.photos):
        at = rng.randrange(len(planned))
        planned[at] = _with_irrelevant_photo(rng, planned[at])
    if broken > len(planned):
        raise ConfigurationError(
            f"{broken} broken photos need as many groups, and the tree has {len(planned)}; "
            "ask for more groups or fewer broken photos"
        )
    for turn, at in enumerate(rng.sample(range(len(planned)), broken)):
        planned[at] = _with_broken_photo(rng, planned[at], turn)
    return planned


def _plan_mission(mission: Mission, count: int, seed: int, label_noise: float) -> list[PlannedGroup]:
    rng = Random(f"{seed}/{mission.name}")
    numbers = iter(rng.sample(range(10_000, 9_999_999), count))
    planned: list[PlannedGroup] = []
    if count >= FEWEST_GROUPS_TO_RESUBMIT:
        for _ in range(max(1, round(count * RESUBMITTED_SHARE))):
            planned += _plan_resubmission(rng, mission, _invent_ticket(rng, next(numbers)))
    # Both labels occur from two groups on, whatever the dice say.
    wanted = [*LABELS, *(rng.choice(LABELS) for _ in range(count))][: count - len(planned)]
    for label in wanted:
        group = compose_group(rng, mission, wanted=label, size=draw_group_size(rng))
        planned.append(_plan_group(rng, group, _invent_ticket(rng, next(numbers))))
    planned = _mislabel(Random(f"{seed}/{mission.name}/labels"), planned, round(label_noise * count))
    return sorted(planned, key=lambda group: (LABELS.index(group.label), group.ticket.folder))


def _mislabel(rng: Random, planned: Sequence[PlannedGroup], count: int) -> list[PlannedGroup]:
    single = [at for at, group in enumerate(planned) if not group.resubmitted]
    chosen = set(rng.sample(single, min(count, len(single))))
    return [replace(group, mislabelled=at in chosen) for at, group in enumerate(planned)]


def _plan_group(rng: Random, group: SceneGroup, ticket: Ticket) -> PlannedGroup:
    photos = [plan_photo(rng, scene) for scene in group.scenes]
    return PlannedGroup(group.mission, ticket, group.verdict, _named(ticket, photos))


def _plan_resubmission(rng: Random, mission: Mission, ticket: Ticket) -> list[PlannedGroup]:
    """A ticket that failed, and passed when sent again: half of its sound photos were there before."""
    while True:
        faulty = compose_group(rng, mission, wanted="fail", size=rng.choice([1, 2]))
        sound = compose_group(rng, mission, wanted="pass", size=rng.choice([2, 3]))
        again = [plan_photo(rng, scene) for scene in sound.scenes]
        first = [*again[: (len(again) + 1) // 2], *(plan_photo(rng, scene) for scene in faulty.scenes)]
        verdicts = _judge(mission, first), _judge(mission, again)
        # What the faulty photos lacked may stand on a sound one: then the dice are thrown again.
        if [verdict.label for verdict in verdicts] == ["fail", "pass"]:
            return [
                PlannedGroup(mission, ticket, verdict, _named(ticket, photos), resubmitted=True)
                for verdict, photos in zip(verdicts, (first, again), strict=True)
            ]


def _judge(mission: Mission, photos: Sequence[Photo]) -> Verdict:
    return judge_group(mission, [photo.scene for photo in photos])


def _invent_ticket(rng: Random, number: int) -> Ticket:
    day = f"2024{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    return Ticket(day, number, id_in_stem=rng.random() < STEM_ID_SHARE)


def _named(ticket: Ticket, photos: Sequence[Photo]) -> tuple[tuple[str, Photo], ...]:
    return tuple((ticket.photo_name(place), photo) for place, photo in enumerate(photos, start=1))


def _with_irrelevant_photo(rng: Random, group: PlannedGroup) -> PlannedGroup:
    scene: Scene = irrelevant_scene(rng, group.mission.dataset)
    name = group.ticket.photo_name(len(group.photos) + 1)
    return replace(group, photos=(*group.photos, (name, plan_photo(rng, scene))))


def _with_broken_photo(rng: Random, group: PlannedGroup, turn: int) -> PlannedGroup:
    """The photo's file breaks after the reviewers saw it: the verdict stays."""
    at = rng.randrange(len(group.photos))
    photos = list(group.photos)
    name, photo = photos[at]
    photos[at] = (name, replace(photo, damage=DAMAGES[turn % len(DAMAGES)]))
    return replace(group, photos=tuple(photos))

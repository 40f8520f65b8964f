"""Invented groups: how many photos they hold, what these show, and which verdict follows."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.scenes import Scene
from stage_a_pipeline.demo.verdicts import Verdict, judge_group
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.records import Label

IRRELEVANT_CHANCE: Final = 0.05
SIZE_WEIGHTS: Final = {1: 18, 2: 24, 3: 22, 4: 15, 5: 9, 6: 5, 7: 3, 8: 2, 10: 1, 14: 0.5, 22: 0.1, 38: 0.05}
"""Photos per group: median 3, mean 3.3, rarely many."""

_SOUND_CHANCE: Final[dict[Label, float]] = {"pass": 1.0, "fail": 0.58}
_MOST_TRIES: Final = 400


@dataclass(frozen=True, slots=True)
class SceneGroup:
    """What a group's photos show, and the verdict that its mission's rule gives."""

    mission: Mission
    scenes: tuple[Scene, ...]
    verdict: Verdict


def draw_group_size(rng: Random) -> int:
    """A number of photos in the field's proportions."""
    return rng.choices(list(SIZE_WEIGHTS), list(SIZE_WEIGHTS.values()))[0]


def compose_group(rng: Random, mission: Mission, *, wanted: Label, size: int) -> SceneGroup:
    """A group of `size` photos whose verdict is the wanted one, except for unlikely bad luck."""
    for _ in range(_MOST_TRIES):
        scenes = tuple(
            compose_scene(
                rng, mission, irrelevant_chance=IRRELEVANT_CHANCE, sound_chance=_SOUND_CHANCE[wanted]
            )
            for _ in range(size)
        )
        verdict = judge_group(mission, scenes)
        if verdict.label == wanted:
            break
    return SceneGroup(mission, scenes, verdict)

"""Missions that the built-in checkpoint has not learnt, for showing how Stage-B learns a rule.

Training draws from the packaged missions alone. Of these here the checkpoint can read the photos, as
they show what those of the other missions show; the rules by which their groups pass are new to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from stage_a_pipeline.missions import Mission, MissionTable, load_missions


def unseen_missions_file() -> Path:
    """The missions file that adds the unseen missions to the packaged ones."""
    return Path(str(files("stage_a_pipeline.demo").joinpath("unseen_missions.toml")))


def demo_missions() -> MissionTable:
    """Every mission whose photos can be rendered: the packaged ones and the unseen ones."""
    return load_missions(unseen_missions_file())


def unseen_among(missions: Iterable[Mission]) -> tuple[str, ...]:
    """The names of those missions that only the file of unseen missions knows."""
    packaged = load_missions()
    return tuple(mission.name for mission in missions if mission.name not in packaged)

"""One small tree of all missions, and the missions themselves."""

from pathlib import Path

import pytest

from stage_a_pipeline.demo.tree import DemoTree, write_demo_tree
from stage_a_pipeline.demo.unseen import demo_missions
from stage_a_pipeline.missions import Mission, load_missions

MISSIONS: list[Mission] = list(load_missions().values())
MISSION_NAMES = [mission.name for mission in MISSIONS]
ALL_MISSIONS: list[Mission] = list(demo_missions().values())
"""Those and the ones that the built-in checkpoint has not learnt."""

UNSEEN_SEED = 900_001
"""Training draws its scenes from other generators; this seed is for measuring alone."""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DemoTree:
    """Three groups of every mission, with three broken photos."""
    root: Path = tmp_path_factory.mktemp("demo") / "tree"
    return write_demo_tree(root, missions=MISSION_NAMES, groups=4, seed=UNSEEN_SEED, broken=3)

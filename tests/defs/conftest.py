from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from stage_a_pipeline.defs.jobs import ASSETS
from stage_a_pipeline.defs.launch import CHECKS
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.places import Place
from tests.conftest import MISSION


@pytest.fixture
def materialise(tmp_path: Path):
    """Materialise the whole chain of one mission in memory, with the fake engine unless told otherwise."""
    return materialiser(tmp_path)


def materialiser(folder: Path):
    """A function that materialises a chain whose results go to `folder` unless told otherwise."""

    def run(
        root: Place,
        mission: str = MISSION,
        *,
        raise_on_error: bool = True,
        run_config: Any = None,
        **sections: Any,
    ) -> dg.ExecuteInProcessResult:
        own: dict[str, dict[str, Any]] = {
            "discovery": {"input_root": str(root)},
            "engine": {"engine": "fake", "batch_size": 4},
            # Tests of worker processes say so.
            "inference": {"worker_processes": False, "lease_dir": str(folder / "leases")},
            "output": {"output_dir": str(folder / "out")},
        }
        given = {name: own.get(name, {}) | sections.get(name, {}) for name in {**own, **sections}}
        settings = SettingsResource(**given)
        return dg.materialize_to_memory(
            [*ASSETS, *CHECKS],
            partition_key=mission,
            resources={"settings": settings, "progress": LogProgress()},
            raise_on_error=raise_on_error,
        )

    return run

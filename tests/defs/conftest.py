from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from stage_a_pipeline.defs.launch import ASSETS, CHECKS
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
        settings = SettingsResource(
            discovery={"input_root": str(root)},
            sampling=sections.get("sampling", {}),
            engine={"engine": "fake", "batch_size": 4, **sections.get("engine", {})},
            inference={
                # Tests of worker processes say so.
                "worker_processes": False,
                "lease_dir": str(folder / "leases"),
                **sections.get("inference", {}),
            },
            cluster=sections.get("cluster", {}),
            fail_reasons=sections.get("fail_reasons", {}),
            evaluation=sections.get("evaluation", {}),
            output={"output_dir": str(folder / "out"), **sections.get("output", {})},
        )
        return dg.materialize_to_memory(
            [*ASSETS, *CHECKS],
            partition_key=mission,
            resources={"settings": settings, "progress": LogProgress()},
            raise_on_error=raise_on_error,
        )

    return run

"""Runs of a few photos with the fake engine, watched from outside."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.inference.shard import ShardTask, mission_recipe
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from tests.conftest import MISSION, write_groups
from tests.telemetry.collector import Collector, serving

PHOTOS = 12


@dataclass
class Runs:
    """Runs over twelve photos in one folder, and what people were told."""

    folder: Path
    warnings: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    def task(
        self, *, faults: str = "", device: str = "cpu", run_id: str | None = None, **sections: dict[str, Any]
    ) -> Task:
        (self.folder / "faults.toml").write_text(faults, "utf-8")
        engine = {"engine": "fake", "batch_size": 4, "fake_faults": self.folder / "faults.toml"}
        values = {
            "engine": engine | sections.get("engine", {}),
            "inference": {"lease_dir": self.folder / "leases"} | sections.get("inference", {}),
            "output": {"output_dir": self.folder / "out"} | sections.get("output", {}),
            "telemetry": sections.get("telemetry", {}),
        }
        settings = Settings.model_validate(values)
        groups = discover_groups(self.folder / "in", MISSION).groups
        recipe = mission_recipe(load_missions()[MISSION], settings)
        refs = deal_out(enumerate(groups), shards=1, mode="per_group")[0]
        shard = ShardTask(
            device, refs, Worker("cpu"), {MISSION: recipe}, settings, run_id or str(uuid.uuid4())
        )
        return Task(shard, groups)

    def run(self, task: Task) -> tuple[list[dict[str, Any]], ShardMetrics]:
        audience = Audience(self.progress.append, self.warnings.append, lambda _: None)
        table, metrics = run_task(task, [], self.folder / f"task-{task.shard.name}", audience)
        return table.read().to_pylist(), metrics


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})
    return Runs(tmp_path)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(variable, raising=False)
    with serving() as collector:
        yield collector


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


FreePort = Callable[[], int]

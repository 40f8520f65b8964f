"""Three Ray nodes on this machine, and tasks that are run on them, or on nothing but a host of theirs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from stage_a_pipeline.cluster.messages import Brief, versions_here, with_absolute_paths
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import ShardTask, mission_recipe
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from tests.conftest import MISSION, write_groups
from tests.object_store import Proxy

# Before Ray is imported: nothing is told to anybody, and every port is on the loopback interface.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

SIZES = {"fail": [3, 1, 4, 2, 5], "pass": [4, 2, 3, 5, 1]}
PHOTOS = 30
NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""Dead nodes are noticed within seconds."""


class Heard:
    """What a run was told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.log: list[str] = []
        self.progress: list[Any] = []

    @property
    def audience(self) -> Audience:
        return Audience(self.progress.append, self.warnings.append, self.log.append)


@pytest.fixture(scope="package")
def nodes(s3_server: Proxy) -> Iterator[Any]:
    """A Ray cluster of three nodes with one processor each, which know the endpoint of the S3 server."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": SOON})
    for _ in range(2):
        cluster.add_node(wait=False, **NODE)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def groups(tmp_path: Path):
    return discover_groups(write_groups(tmp_path / "in", MISSION, SIZES), MISSION).groups


@pytest.fixture
def task(tmp_path: Path, groups) -> Callable[..., Task]:
    """Builds the task of all photos for the fake engine with these faults; sections come on top."""

    def build(faults: str = "", *, run_id: str = "run", **sections: Any) -> Task:
        (tmp_path / "faults.toml").write_text(f'asked_file = "asked.txt"\n{faults}', "utf-8")
        given: dict[str, dict[str, Any]] = {
            "discovery": {"input_root": tmp_path / "in"},
            "engine": {"engine": "fake", "batch_size": 2, "fake_faults": tmp_path / "faults.toml"},
            "inference": {"lease_dir": tmp_path / "leases", "sort_window": 0},
            "cluster": {"photos_per_shard": 4},
            "output": {"output_dir": tmp_path / "out"},
        }
        for section, values in sections.items():
            given[section] = given.get(section, {}) | values
        settings = Settings.model_validate(given)
        recipes = {MISSION: mission_recipe(load_missions()[MISSION], settings)}
        refs = deal_out(enumerate(groups), shards=1, mode="per_group")[0]
        return Task(ShardTask("cpu", refs, Worker("cpu"), recipes, settings, run_id), groups)

    return build


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[], list[str]]:
    """Every photo that engines were asked, as often as they were."""

    def read() -> list[str]:
        file = tmp_path / "asked.txt"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    return read


def brief_of(task: Task) -> Brief:
    shard = task.shard
    return Brief(
        shard.name, shard.run_id, with_absolute_paths(shard.settings), shard.recipes, versions_here()
    )


def photos_done(told: str) -> list[int]:
    """How many photos each actor has done, by what a run says at its end."""
    (shares,) = re.findall(r"photos done by (actor-\d.*?: \d+(?:, actor-\d.*?: \d+)*)", told)
    return [int(share.rpartition(": ")[2]) for share in shares.split(", ")]


def host_workers(run_id: str | None = None, *, below: Path | None = None) -> list[psutil.Process]:
    """The worker processes beside a run's actors, told by the run's id or its folder, on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or ()
        if "stage_a_pipeline.cluster.host_worker" in command:
            with suppress(FileNotFoundError):
                described = Path(command[-2], "task.json").read_text("utf-8")
                if json.loads(described)["run_id"] == run_id or (below and str(below) in described):
                    found.append(process)
    return found

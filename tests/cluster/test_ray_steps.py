"""Whole steps as Ray jobs: the example configuration."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MISSION, write_groups
from tests.faults.conftest import wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_steps.py"
BIN = Path(sys.executable).parent


def test_the_example_loads_with_every_asset_and_rays_executor():
    program = (
        f"import runpy; defs = runpy.run_path({str(EXAMPLE)!r})['defs']; "
        "print(defs.executor.name, len(list(defs.resolve_all_asset_specs())))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["ray", "9"]


@pytest.fixture
def jobs(monkeypatch):
    """The address of the job server of a cluster of one node, whose jobs find `dagster` on their path."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PATH", os.pathsep.join([str(BIN), os.environ["PATH"]]))
    # The agent's usual port may be that of the other tests' cluster, and jobs then find no agent.
    ports = {"dashboard_port": 0, "dashboard_agent_listen_port": 0}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True, **ports}
    )
    address = f"http://{cluster.head_node.address_info['webui_url']}"
    wait_until(lambda: takes_jobs(address), "a job server that takes jobs", seconds=120)
    yield address
    cluster.shutdown()


def takes_jobs(address):
    from ray.job_submission import JobSubmissionClient

    # Its agents are up some time after the server.
    with suppress(RuntimeError, ConnectionError):
        return JobSubmissionClient(address).submit_job(entrypoint="true")


@pytest.mark.slow
def test_steps_of_the_example_run_as_jobs_on_a_cluster(tmp_path, jobs, monkeypatch):
    """Every step takes ten seconds to start; two are enough to see that they find each other's tables."""
    write_groups(tmp_path / "in", MISSION, {"pass": [2, 1]})
    settings, home = tmp_path / "settings.toml", tmp_path / "home"
    settings.write_text(
        '[discovery]\ninput_root = "in"\n[engine]\nengine = "fake"\n[output]\noutput_dir = "out"\n', "utf-8"
    )
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("STAGE_A_SETTINGS", str(settings))
    monkeypatch.setenv("RAY_JOBS", jobs)
    done = subprocess.run(
        [
            BIN / "dagster", "asset", "materialize", "-f", EXAMPLE,
            "--select", "image_groups,sampled_groups", "--partition", MISSION,
        ],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-5000:]
    assert told.count(" in Ray job dagster-step-") >= 2
    assert len(list((tmp_path / "out" / "work" / "tables").rglob("*.parquet"))) == 2

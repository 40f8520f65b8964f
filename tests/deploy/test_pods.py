"""A pod per step: dagster-k8s' own executor against an API on loopback, whose pods are processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import psutil
import pytest
import yaml

from stage_a_pipeline.settings import SETTINGS_VARIABLE
from tests.conftest import MISSION
from tests.deploy.chart import KUBERNETES, VALUES, container_of, in_dagster_yaml, merged
from tests.deploy.kubernetes_api import KubernetesApi
from tests.faults.conftest import PHOTOS, Workplace, finish, make_workplace, undisturbed

__all__ = ["make_workplace", "undisturbed"]
pytestmark = pytest.mark.slow

TWO = {"devices": ["cpu", "cpu"]}
BEFORE = "image_groups,sampled_groups,fail_reasons"
SHARDED = "stage_a_summaries"
AFTER = "clean_summaries,enriched_records,stage_a_jsonl"


@pytest.fixture
def workplace(make_workplace: Callable[..., Workplace]) -> Workplace:
    return make_workplace()


@pytest.fixture
def api(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A cluster, and a DAGSTER_HOME whose run launcher is the one of the Helm values."""
    environment = {
        SETTINGS_VARIABLE: str(workplace.settings_file),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    api = KubernetesApi(workplace.folder, environment)
    home = workplace.folder / "home"
    home.mkdir()
    launcher = in_dagster_yaml(merged(*VALUES["gpu per step"]))
    launcher |= {"load_incluster_config": False, "kubeconfig_file": str(api.kubeconfig())}
    launcher |= {"dagster_home": str(home), "job_image": "stage-a-pipeline:0.1.0"}
    document = {
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
        "telemetry": {"enabled": False},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    # As in the pod of a run.
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("HOSTNAME", "the-run")
    yield api
    api.close()


def materialise(workplace: Workplace, assets: str, executor: str = "auto", faults: str = "") -> psutil.Popen:
    """Dagster's own command, for some assets of the mission."""
    workplace.configure(faults, engine=TWO, execution={"executor": executor})
    what = ("-m", "stage_a_pipeline.definitions", "--select", assets, "--partition", MISSION)
    return workplace.start("dagster", "asset", "materialize", *what)


def test_steps_in_pods_survive_the_death_of_one_and_end_in_the_same_bytes(workplace, api, undisturbed):
    assert finish(materialise(workplace, BEFORE)).code == 0
    run = materialise(workplace, SHARDED, "k8s", "seconds_per_photo = 0.3\n")
    workplace.wait_for_answers(4, run, seconds=120)
    (shard,) = [name for name in api.jobs if api.op_of(name).endswith("summarise_shard-cpu")]
    api.processes[shard].kill()
    failed = finish(run)
    assert failed.code == 1
    assert f"Discovered failed Kubernetes job {shard}" in failed.output
    finished, asked = workplace.answers().total(), len(workplace.asked())
    assert 4 <= finished < PHOTOS

    again = finish(materialise(workplace, SHARDED, "k8s"))
    assert again.code == 0, again.output
    assert len(workplace.asked()) - asked == PHOTOS - finished, "no finished photo is asked again"
    assert finish(materialise(workplace, AFTER)).code == 0
    assert workplace.published() == undisturbed.published()

    steps = {api.op_of(name).removeprefix("stage_a_summaries.") for name in api.jobs}
    assert {"plan_shards", "summarise_shard-cpu", "summarise_shard-cpu_1", "merge_shards"} <= steps
    for job in api.jobs.values():
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
        assert container_of(job)["securityContext"]["readOnlyRootFilesystem"]
        (owner,) = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "the-run", "uid of the-run")

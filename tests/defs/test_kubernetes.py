"""The tags that ask Kubernetes for GPUs, and the executor that starts a pod per step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
from dagster._config import process_config

from stage_a_pipeline.defs.kubernetes import (
    pod_per_step,
    reassembly_run_tags,
    reassembly_tags,
    run_tags,
    shard_tags,
    training_tags,
)
from stage_a_pipeline.settings import Settings, load_settings
from tests.deploy.chart import KUBERNETES, VALUES, container_of, job_manifest, merged
from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes_api import KubernetesApi


def settings(**environment: str) -> Settings:
    return load_settings(environ=environment)


def tagged_job(values: Mapping[str, Any], tags: Mapping[str, Any]) -> dict[str, Any]:
    """The Job of a run or step with such tags, which Kubernetes takes."""
    stored = dg.op(name="tagged", tags=tags)(lambda: None).tags
    manifest = job_manifest(values, stored)
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    return manifest


def limits(values: Mapping[str, Any], tags: Mapping[str, Any]) -> Mapping[str, str]:
    """What the container of its pod may use."""
    found: Mapping[str, str] = container_of(tagged_job(values, tags))["resources"]["limits"]
    return found


def tolerated(values: Mapping[str, Any], tags: Mapping[str, Any]) -> list[str]:
    """Taints of the nodes that its pod may be put on."""
    pod = tagged_job(values, tags)["spec"]["template"]["spec"]
    return [entry["key"] for entry in pod.get("tolerations", [])]


def test_on_a_cpu_nobody_asks_for_a_gpu():
    for executor in ("auto", "k8s"):
        on_cpu = settings(STAGE_A_EXECUTOR=executor)
        assert not shard_tags(on_cpu)
        assert not run_tags(on_cpu)
        assert not training_tags(on_cpu)


def test_a_reassembly_asks_for_a_gpu_where_its_device_is_one_whatever_those_of_missions_are():
    for device, gpus in (("auto", None), ("cpu", None), ("cuda:0", "1")):
        chosen = load_settings(
            environ={"STAGE_A_DEVICES": "cuda:0,cuda:1"}, overrides={"reassembly": {"device": device}}
        )
        for tags in (reassembly_tags(chosen), reassembly_run_tags(chosen)):
            values = merged(*VALUES["gpu per step"])
            assert limits(values, tags).get("nvidia.com/gpu") == gpus


def test_with_a_pod_per_run_the_job_asks_for_as_many_gpus_as_there_are_devices():
    chosen = settings(STAGE_A_DEVICES="cuda:0,cuda:1,cuda:1")
    values = merged(*VALUES["gpu per run"])
    assert limits(values, run_tags(chosen)) == {"memory": "32Gi", "nvidia.com/gpu": "2"}
    assert limits(values, {}) == {"memory": "32Gi", "nvidia.com/gpu": "1"}, "runs of other jobs get one"


def test_with_a_pod_per_step_the_op_that_summarises_asks_for_one_gpu_and_the_job_for_none():
    chosen = settings(STAGE_A_EXECUTOR="k8s", STAGE_A_DEVICES="cuda:0,cuda:0")
    values = merged(*VALUES["gpu per step"])
    assert limits(values, shard_tags(chosen)) == {"memory": "32Gi", "nvidia.com/gpu": "1"}
    assert limits(values, run_tags(chosen)) == {"memory": "32Gi"}


def test_with_a_pod_per_step_a_training_asks_for_the_gpus_of_all_devices():
    chosen = settings(STAGE_A_EXECUTOR="k8s", STAGE_A_DEVICES="cuda:0,cuda:1")
    values = merged(*VALUES["gpu per step"])
    assert limits(values, training_tags(chosen)) == {"memory": "32Gi", "nvidia.com/gpu": "2"}


def test_the_assets_that_train_and_judge_carry_the_tags_of_a_training():
    names = ("stage_b_dataset", "stage_b_adapter", "stage_b_evaluation")
    code = (
        "from stage_a_pipeline.definitions import defs\n"
        f"for name in {names}:\n"
        "    print('dagster-k8s/config' in defs.resolve_assets_def(name).op.tags)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"STAGE_A_DEVICES": "cuda:0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True", "True"]


def test_a_device_of_two_gpus_asks_for_two(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[engine]\nengine = "vllm"\ndevices = ["cuda:0+1", "cuda:2+3"]\n')
    by_run, by_step = (
        settings(STAGE_A_SETTINGS=str(file), STAGE_A_EXECUTOR=each) for each in ("auto", "k8s")
    )
    assert limits(merged(*VALUES["gpu per run"]), run_tags(by_run))["nvidia.com/gpu"] == "4"
    assert limits(merged(*VALUES["gpu per step"]), shard_tags(by_step))["nvidia.com/gpu"] == "2"


def test_a_gpu_may_have_another_name(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[execution]\ngpu_resource = "amd.com/gpu"\n[engine]\ndevices = ["cuda:0"]\n')
    chosen = settings(STAGE_A_SETTINGS=str(file))
    assert limits(merged("values.yaml"), shard_tags(chosen)) == {"memory": "8Gi", "amd.com/gpu": "1"}


def test_only_pods_with_a_gpu_are_put_on_nodes_that_are_kept_for_those(tmp_path):
    by_step = settings(STAGE_A_EXECUTOR="k8s", STAGE_A_DEVICES="cuda:0,cuda:0")
    values = merged(*VALUES["gpu per step"])
    assert tolerated(values, shard_tags(by_step)) == ["nvidia.com/gpu"]
    assert tolerated(values, run_tags(by_step)) == []
    # Asked for by the values as well, for runs that are started without a job.
    by_run = run_tags(settings(STAGE_A_DEVICES="cuda:0"))
    assert tolerated(merged(*VALUES["gpu per run"]), by_run) == ["nvidia.com/gpu"]
    file = tmp_path / "settings.toml"
    file.write_text('[execution]\ngpu_resource = "nvidia.com/mig-1g.10gb"\n[engine]\ndevices = ["cuda:0"]\n')
    part = shard_tags(settings(STAGE_A_SETTINGS=str(file)))
    assert tolerated(merged("values.yaml"), part) == ["nvidia.com/gpu"]


@pytest.mark.parametrize("inside", [True, False], ids=["in a cluster", "outside"])
def test_in_a_cluster_the_pods_of_steps_belong_to_that_of_their_run(tmp_path, monkeypatch, inside):
    from dagster_k8s import executor as library

    class Handler(library.K8sStepHandler):
        def __init__(self, **given):
            told.append(given["enable_owner_references"])
            super().__init__(**given)

    told: list[bool] = []
    monkeypatch.setattr(library, "K8sStepHandler", Handler)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if inside:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    api = KubernetesApi(tmp_path, {})
    chosen = {"load_incluster_config": False, "kubeconfig_file": str(api.kubeconfig()), "max_concurrent": 4}
    executor = pod_per_step()
    config = process_config(executor.config_schema.config_type, chosen).value
    with dg.instance_for_test() as instance:
        context = dg.InitExecutorContext(dg.reconstructable(a_job), executor, config, instance)
        executor.executor_creation_fn(context)
    api.close()
    assert told == [inside]


@dg.job
def a_job():
    """Nothing."""


def load_definitions(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from stage_a_pipeline.definitions import defs\n{program}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_location_carries_the_executor_and_the_tags_of_its_settings():
    program = (
        "import json; from stage_a_pipeline.defs import stage_a\n"
        "job = defs.resolve_job_def('stage_a_mission')\n"
        "ops = (stage_a.plan_shards, stage_a.summarise_shard, stage_a.merge_shards)\n"
        "print(json.dumps([job.executor_def.name, job.run_tags, *[list(op.tags) for op in ops]]))"
    )
    done = load_definitions(program, STAGE_A_EXECUTOR="k8s", STAGE_A_DEVICES="cuda:0,cuda:0")
    assert done.returncode == 0, done.stderr
    tags = {"stage_a/device": "cuda:0,cuda:0", "stage_a/engine": "refill"}
    assert json.loads(done.stdout) == ["k8s", tags, [], ["dagster-k8s/config"], []]


def test_without_dagster_k8s_the_executor_says_what_to_install(tmp_path):
    (tmp_path / "dagster_k8s.py").write_text("raise ImportError('not here')\n")
    done = load_definitions("", STAGE_A_EXECUTOR="k8s", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1
    assert "pip install '.[k8s]' in the project's folder, or leave the setting out" in done.stderr

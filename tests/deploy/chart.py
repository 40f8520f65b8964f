"""Helm values as Dagster's chart takes them, down to the Job that dagster-k8s makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kubernetes.client
import yaml
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)

from tests.deploy.conftest import DEPLOY

FOLDER = DEPLOY / "kubernetes"
KUBERNETES = "1.34"
VALUES = {
    "cpu": ("values.yaml",),
    "gpu per run": ("values.yaml", "gpu-per-run.yaml"),
    "gpu per step": ("values.yaml", "gpu-per-step.yaml"),
}
LAUNCHER = "k8sRunLauncher"


def merged(*names: str) -> dict[str, Any]:
    """Values of several files as Helm merges them: maps by key, anything else replaced."""
    result: dict[str, Any] = {}
    for name in names:
        merge(result, yaml.safe_load((FOLDER / name).read_text("utf-8")))
    return result


def merge(onto: dict[str, Any], given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(onto.get(key), dict):
            merge(onto[key], value)
        else:
            onto[key] = value


def launcher_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    launcher: Mapping[str, Any] = values["runLauncher"]["config"][LAUNCHER]
    return launcher


def in_dagster_yaml(values: Mapping[str, Any]) -> dict[str, Any]:
    """The run launcher's config as the chart writes it into dagster.yaml."""
    given = launcher_of(values)
    return {
        "load_incluster_config": given["loadInclusterConfig"],
        "job_namespace": "stage-a",
        "image_pull_policy": given["imagePullPolicy"],
        "service_account_name": "dagster",
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "env_config_maps": [entry["name"] for entry in given["envConfigMaps"]],
        "volumes": given["volumes"],
        "volume_mounts": given["volumeMounts"],
        "resources": given["resources"],
        "fail_pod_on_run_failure": given["failPodOnRunFailure"],
        "security_context": given["securityContext"],
        "run_k8s_config": {
            {"podSpecConfig": "pod_spec_config", "jobSpecConfig": "job_spec_config"}[key]: value
            for key, value in given["runK8sConfig"].items()
        },
    }


def job_manifest(values: Mapping[str, Any], *tags: Mapping[str, str]) -> dict[str, Any]:
    """The Job that dagster-k8s makes for a run or a step with such tags, as it is sent to Kubernetes."""
    config = in_dagster_yaml(values)
    names = (
        "image_pull_policy", "service_account_name", "env_config_maps", "volumes", "volume_mounts",
        "resources", "security_context",
    )  # fmt: skip
    context = K8sContainerContext(
        **{name: config[name] for name in names},
        namespace=config["job_namespace"],
        run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(config["run_k8s_config"]),
    )
    for own in tags:
        context = context.merge(K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(own)))
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(
            job_image="stage-a-pipeline:0.1.0",
            dagster_home=config["dagster_home"],
            instance_config_map=config["instance_config_map"],
            postgres_password_secret=config["postgres_password_secret"],
        ),
        args=["dagster", "api", "execute_run"],
        job_name="a-run",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    manifest: dict[str, Any] = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    return manifest


def container_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return container  # type: ignore[no-any-return]

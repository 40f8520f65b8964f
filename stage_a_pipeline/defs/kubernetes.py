"""What Kubernetes is asked for on behalf of a run or a step. Nobody else looks at these tags."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings import Settings

TAG = "dagster-k8s/config"


def shard_tags(settings: Settings) -> Mapping[str, Any]:
    """Tags of the op that summarises a shard: in a pod of its own, the GPUs of a device."""
    return _gpus(max(map(len, _gpus_by_device(settings)), default=0), settings)


def training_tags(settings: Settings) -> Mapping[str, Any]:
    """Tags of an op that works on all devices at once: in a pod of its own, the GPUs of all of them."""
    return _gpus(len(set().union(*_gpus_by_device(settings))), settings)


def run_tags(settings: Settings) -> Mapping[str, Any]:
    """Tags of a job: the pod of its run holds a GPU per device, unless steps have pods of their own."""
    return {} if settings.execution.executor == "k8s" else training_tags(settings)


def reassembly_tags(settings: Settings) -> Mapping[str, Any]:
    """Tags of an op that stitches patches: in a pod of its own, a GPU where the settings name one."""
    return _gpus(int(settings.reassembly.device.startswith("cuda")), settings)


def reassembly_run_tags(settings: Settings) -> Mapping[str, Any]:
    """Tags of a job that does, as run_tags has them."""
    return {} if settings.execution.executor == "k8s" else reassembly_tags(settings)


def pod_per_step() -> dg.ExecutorDefinition:
    """The executor that starts a pod for every step. ConfigurationError where dagster-k8s is missing."""
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise ConfigurationError(
            "execution.executor = \"k8s\" needs dagster-k8s: pip install '.[k8s]' in the project's folder, "
            "or leave the setting out"
        ) from error

    def start(init: dg.InitExecutorContext) -> dg.Executor:
        config = dict(init.executor_config)
        # Where the run has a pod, those of its steps go with it when it is removed: nobody else ends them.
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config["enable_owner_references"] = True
        assert k8s_job_executor.executor_creation_fn is not None
        return k8s_job_executor.executor_creation_fn(init._replace(executor_config=config))

    return dg.ExecutorDefinition(
        k8s_job_executor.name,
        config_schema=k8s_job_executor.config_schema.as_field(),
        requirements=dg.multiple_process_executor_requirements(),
        executor_creation_fn=start,
    )


def _gpus_by_device(settings: Settings) -> list[set[str]]:
    """The numbers of each CUDA device's GPUs: `cuda:0+1` has two."""
    if not settings.engine.uses_device:
        return []
    cuda = (device for device in settings.engine.devices if device.startswith("cuda"))
    return [set(device.removeprefix("cuda:").split("+")) for device in cuda]


def _gpus(count: int, settings: Settings) -> Mapping[str, Any]:
    if not count:
        return {}
    resource = settings.execution.gpu_resource
    # Nodes with GPUs turn away pods without any; a part of a GPU is on a node of its maker's GPUs.
    taint = {"key": f"{resource.partition('/')[0]}/gpu", "operator": "Exists", "effect": "NoSchedule"}
    return {
        TAG: {
            "container_config": {"resources": {"limits": {resource: str(count)}}},
            "pod_spec_config": {"tolerations": [taint]},
        }
    }

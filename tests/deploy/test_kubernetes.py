"""What Kubernetes would be given: Helm values and manifests, and the pods that dagster-k8s makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings import load_settings
from tests.deploy.chart import (
    FOLDER,
    KUBERNETES,
    VALUES,
    container_of,
    in_dagster_yaml,
    job_manifest,
    launcher_of,
    merged,
)
from tests.deploy.chart_keys import CHART, unknown_keys
from tests.deploy.conftest import DEPLOY, ROOT


def without(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != key}


def services_of(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the chart runs besides the runs themselves."""
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    return [values["dagsterWebserver"], values["dagsterDaemon"], deployment]


@pytest.fixture(params=list(VALUES))
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return merged(*VALUES[request.param])


# Helm values


def test_the_values_use_keys_of_the_chart_only(values):
    assert list(unknown_keys(values, CHART)) == []


def test_a_key_that_the_chart_does_not_know_is_found_wherever_it_stands(values):
    values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]["maxRuns"] = 1
    values["dagster-user-deployments"]["deployments"][0]["includeConfigInLaunchedRuns"]["always"] = True
    assert list(unknown_keys(values, CHART)) == [
        ".dagster-user-deployments.deployments.includeConfigInLaunchedRuns.always",
        ".dagsterDaemon.runCoordinator.config.queuedRunCoordinator.maxRuns",
    ]


def test_kubernetes_takes_the_pods_of_the_services(values):
    for service in services_of(values):
        probes = {
            # The chart says by itself how it asks, and whether.
            probe: {"grpc": {"port": 4000}} | without(service[probe], "enabled")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            if probe in service
        }
        container = {
            "name": "service",
            "image": "{repository}:{tag}".format(**service["image"]),
            "imagePullPolicy": service["image"]["pullPolicy"],
            "envFrom": [{"configMapRef": entry} for entry in service.get("envConfigMaps", [])],
            **{key: service[key] for key in ("resources", "securityContext", "volumeMounts")},
            **probes,
        }
        spec = {"containers": [container], "volumes": service["volumes"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "service"}}
        spec["securityContext"] = service["podSecurityContext"]
        kubernetes_validate.validate(pod | {"spec": spec}, KUBERNETES, strict=True)


@pytest.mark.parametrize(("case", "own_fault"), [("gpu per run", "false"), ("gpu per step", "true")])
def test_a_run_that_is_gone_is_started_again_and_one_that_failed_by_itself_where_nothing_tells_them_apart(
    case, own_fault
):
    given = merged(*VALUES[case])["dagsterDaemon"]["runRetries"]
    retries = {
        "enabled": given["enabled"],
        "max_retries": given["maxRetries"],
        "retry_on_asset_or_op_failure": given["retryOnAssetOrOpFailure"],
    }

    @dg.op
    def misconfigured():
        raise ConfigurationError("no such setting")

    @dg.job
    def run():
        misconfigured()

    with dg.instance_for_test(overrides={"run_retries": retries}) as instance:
        failed = run.execute_in_process(instance=instance, raise_on_error=False).run_id
        gone = instance.create_run_for_job(run)
        instance.report_run_failed(gone)
        told = [instance.get_run_by_id(each).tags["dagster/will_retry"] for each in (failed, gone.run_id)]
    assert told == [own_fault, "true"]


def test_only_pods_with_a_gpu_are_put_on_nodes_that_are_kept_for_those(values):
    (container,) = (pod := job_manifest(values)["spec"]["template"]["spec"])["containers"]
    assert ("tolerations" in pod) == ("nvidia.com/gpu" in container["resources"]["limits"])


def test_dagster_takes_the_run_launcher_that_the_chart_writes(values):
    schema = resolve_to_config_type(K8sRunLauncher.config_type())
    result = process_config(schema, in_dagster_yaml(values))
    assert result.success, result.errors


def test_kubernetes_takes_the_pod_of_a_run(values):
    kubernetes_validate.validate(job_manifest(values), KUBERNETES, strict=True)


def test_no_pod_runs_as_root_or_writes_to_its_image(values):
    pod = job_manifest(values)["spec"]["template"]["spec"]
    pods = [(pod["securityContext"], container_of(job_manifest(values))["securityContext"])]
    pods += [(service["podSecurityContext"], service["securityContext"]) for service in services_of(values)]
    for of_pod, of_container in pods:
        assert of_pod["runAsNonRoot"]
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert of_container["readOnlyRootFilesystem"]
        assert not of_container["allowPrivilegeEscalation"]
        assert of_container["capabilities"] == {"drop": ["ALL"]}


def test_the_pods_user_is_the_image_s(values, image):
    user = launcher_of(values)["runK8sConfig"]["podSpecConfig"]["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == image.values("USER")[-1]


def test_no_secret_stands_in_the_values(values):
    def secrets(given: object, path: str = "") -> Iterator[str]:
        if isinstance(given, dict):
            for key, value in given.items():
                yield from secrets(value, f"{path}.{key}")
        elif isinstance(given, list):
            for value in given:
                yield from secrets(value, path)
        elif isinstance(given, str) and any(word in path.lower() for word in ("password", "secret", "token")):
            yield path

    assert set(secrets(values)) == {".global.postgresqlSecretName"}
    (password,) = [
        entry for entry in container_of(job_manifest(values))["env"] if "PASSWORD" in entry["name"]
    ]
    assert password == {
        "name": "DAGSTER_PG_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "stage-a-postgresql", "key": "postgresql-password"}},
    }


def test_the_certificate_of_the_database_is_checked(values):
    assert values["postgresql"]["postgresqlParams"]["sslmode"] == "verify-full"
    documented = yaml.safe_load((DEPLOY / "dagster.yaml").read_text("utf-8"))
    scheme = documented["storage"]["postgres"]["postgres_db"]["scheme"]
    assert values["postgresql"]["postgresqlScheme"] == scheme


def test_the_code_server_is_started_as_in_the_image(values, image):
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    command = image.command("CMD")
    assert command[:3] == ["dagster", "api", "grpc"], "the chart puts these before the arguments"
    assert command[-2:] == deployment["dagsterApiGrpcArgs"]
    assert str(deployment["port"]) in command


def test_the_chart_s_version_is_dagster_s():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split())
    assert f"--version {pins['dagster']} " in (FOLDER / "values.yaml").read_text("utf-8")


# Manifests


@pytest.fixture(scope="session")
def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "stage-a.yaml").read_text("utf-8")))


def test_kubernetes_takes_the_manifests(manifests):
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_what_the_values_refer_to_is_in_the_manifests(values, manifests):
    named = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    job = job_manifest(values)
    volumes = [entry for entry in job["spec"]["template"]["spec"]["volumes"] if "emptyDir" not in entry]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    maps = {entry["configMapRef"]["name"] for entry in container_of(job)["envFrom"]}
    maps |= {entry["name"] for entry in deployment["envConfigMaps"]}
    referred = {("PersistentVolumeClaim", entry["persistentVolumeClaim"]["claimName"]) for entry in volumes}
    referred |= {("ConfigMap", name) for name in maps}
    assert len(referred) == 3
    assert referred <= named


def test_the_code_location_loads_with_the_settings_of_the_manifests(manifests):
    (settings,) = [manifest["data"] for manifest in manifests if manifest["kind"] == "ConfigMap"]
    mounted = {
        mount["mountPath"] for mount in container_of(job_manifest(merged("values.yaml")))["volumeMounts"]
    }
    assert mounted == {settings["STAGE_A_INPUT_ROOT"], settings["STAGE_A_OUTPUT_DIR"], "/tmp"}
    # Beside what Kubernetes tells every container of this namespace about the service of the code server.
    links = {"STAGE_A_SERVICE_HOST": "10.0.0.7", "STAGE_A_PORT_4000_TCP": "tcp://10.0.0.7:4000"}
    loaded = load_settings(environ=settings | links)
    assert loaded.execution.executor == "auto"
    assert loaded.engine.devices == ("cpu",)

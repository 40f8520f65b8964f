"""Keys of Dagster's chart, as its public source has them: Helm itself is not here to ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.deploy.chart import LAUNCHER

OF_KUBERNETES: Final = None
"""Written into a pod as it stands: Kubernetes' own schema tells."""

IMAGE: Final = {"repository": {}, "tag": {}, "pullPolicy": {}}
POD: Final = dict.fromkeys(
    [
        "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts", "nodeSelector",
        "tolerations", "startupProbe", "readinessProbe", "livenessProbe", "envConfigMaps", "envSecrets",
    ],
    OF_KUBERNETES,
)  # fmt: skip
CHART: Final = {
    "global": {"postgresqlSecretName": {}},
    "generatePostgresqlPasswordSecret": {},
    "postgresql": {
        "enabled": {},
        "postgresqlHost": {},
        "postgresqlUsername": {},
        "postgresqlDatabase": {},
        "postgresqlScheme": {},
        # libpq's own.
        "postgresqlParams": OF_KUBERNETES,
        "service": {"port": {}},
    },
    "dagster-user-deployments": {
        "enabled": {},
        "enableSubchart": {},
        "deployments": {
            "name": {},
            "image": IMAGE,
            "port": {},
            "dagsterApiGrpcArgs": {},
            "includeConfigInLaunchedRuns": {"enabled": {}},
            **POD,
        },
    },
    "runLauncher": {
        "type": {},
        "config": {
            LAUNCHER: {
                "imagePullPolicy": {},
                "loadInclusterConfig": {},
                "failPodOnRunFailure": {},
                "runK8sConfig": {
                    "containerConfig": OF_KUBERNETES,
                    "podSpecConfig": OF_KUBERNETES,
                    "podTemplateSpecMetadata": OF_KUBERNETES,
                    "jobSpecConfig": OF_KUBERNETES,
                    "jobMetadata": OF_KUBERNETES,
                },
                **dict.fromkeys(
                    ("envConfigMaps", "envSecrets", "volumes", "volumeMounts", "resources"), OF_KUBERNETES
                ),
                "securityContext": OF_KUBERNETES,
            }
        },
    },
    "dagsterWebserver": {"image": IMAGE, "service": {"type": {}, "port": {}, "annotations": {}}, **POD},
    "dagsterDaemon": {
        "enabled": {},
        "image": IMAGE,
        "runCoordinator": {
            "enabled": {},
            "type": {},
            "config": {
                "queuedRunCoordinator": {
                    "maxConcurrentRuns": {},
                    "tagConcurrencyLimits": {"key": {}, "value": {}, "limit": {}},
                    "dequeueIntervalSeconds": {},
                    "dequeueNumWorkers": {},
                    "dequeueUseThreads": {},
                    "blockOpConcurrencyLimitedRuns": {"enabled": {}, "opConcurrencySlotBuffer": {}},
                }
            },
        },
        "runMonitoring": {
            "enabled": {},
            "startTimeoutSeconds": {},
            "cancelTimeoutSeconds": {},
            "maxResumeRunAttempts": {},
            "pollIntervalSeconds": {},
            "freeSlotsAfterRunEndSeconds": {},
        },
        "runRetries": {"enabled": {}, "maxRetries": {}, "retryOnAssetOrOpFailure": {}},
        **POD,
    },
    "telemetry": {"enabled": {}},
}
"""Keys of Dagster's chart that these values may use, down to the leaves. It takes many unknown ones without a
word."""


def unknown_keys(given: object, known: Mapping[str, Any] | None, path: str = "") -> Iterator[str]:
    """Paths of the keys that the chart does not know; those of a list's entries are the same."""
    if known is OF_KUBERNETES:
        return
    if isinstance(given, list):
        for entry in given:
            yield from unknown_keys(entry, known, path)
    elif isinstance(given, dict):
        for key, value in given.items():
            if key in known:
                yield from unknown_keys(value, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"

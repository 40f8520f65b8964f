"""Every step of a run as a job on a Ray cluster, by dagster-ray's `ray_executor`.

    pip install '.[ray-steps]'            # in the project's folder
    export RAY_JOBS=http://head:8265 STAGE_A_SETTINGS=/shared/settings.toml DAGSTER_HOME=/shared/dagster_home
    dagster dev -f examples/ray_steps.py
    dagster asset materialize -f examples/ray_steps.py --select "+key:stage_a_jsonl" --partition RRU线缆

What it takes, and when `[cluster]` alone is the better way: docs/cluster.md.
"""

import os

import dagster as dg
from dagster_ray import ray_executor

from stage_a_pipeline.defs.jobs import ASSETS, MISSION_JOB
from stage_a_pipeline.defs.launch import CHECKS, default_resources
from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE

STEPS = ray_executor.configured(
    {
        "ray": {
            # Ray's job server, which listens on the loopback interface of the head unless told otherwise.
            "address": os.environ.get("RAY_JOBS", "http://127.0.0.1:8265"),
            # Names alone: their values are those of the process that starts the steps.
            "env_vars": [SETTINGS_VARIABLE, *ENVIRONMENT, "DAGSTER_HOME"],
            # No num_cpus here: it would win over the tag `dagster-ray/config` of a single step.
        }
    }
)

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=CHECKS,
    jobs=[MISSION_JOB],
    resources=default_resources(),
    executor=STEPS,
)

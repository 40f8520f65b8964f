"""Everything Dagster loads: `dagster dev`, `dg launch`, `dagster asset materialize -m` start here."""

import dagster as dg

from stage_a_pipeline.defs.launch import (
    ASSETS,
    CHECKS,
    MISSION_JOB,
    REASSEMBLY_ASSETS,
    REASSEMBLY_JOB,
    SENSORS,
    STAGE_B_ASSETS,
    STAGE_B_CHECKS,
    STAGE_B_JOB,
    default_executor,
    default_resources,
)

defs = dg.Definitions(
    assets=[*ASSETS, *STAGE_B_ASSETS, *REASSEMBLY_ASSETS],
    asset_checks=[*CHECKS, *STAGE_B_CHECKS],
    jobs=[MISSION_JOB, STAGE_B_JOB, REASSEMBLY_JOB],
    sensors=SENSORS,
    resources=default_resources(),
    executor=default_executor(),
)

"""Everything Dagster loads: `dagster dev`, `dg launch`, `dagster asset materialize -m` start here."""

import dagster as dg

from stage_a_pipeline.defs.jobs import ASSETS, JOBS, REASSEMBLY_ASSETS, STAGE_B_ASSETS
from stage_a_pipeline.defs.launch import (
    CHECKS,
    SCHEDULES,
    SENSORS,
    STAGE_B_CHECKS,
    default_executor,
    default_resources,
)

defs = dg.Definitions(
    assets=[*ASSETS, *STAGE_B_ASSETS, *REASSEMBLY_ASSETS],
    asset_checks=[*CHECKS, *STAGE_B_CHECKS],
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources=default_resources(),
    executor=default_executor(),
)

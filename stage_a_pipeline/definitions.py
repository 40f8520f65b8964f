"""Everything Dagster loads: `dagster dev`, `dg launch`, `dagster asset materialize -m` start here."""

import dagster as dg

from stage_a_pipeline.defs.launch import ASSETS, CHECKS, MISSION_JOB, default_executor, default_resources

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=CHECKS,
    jobs=[MISSION_JOB],
    resources=default_resources(),
    executor=default_executor(),
)

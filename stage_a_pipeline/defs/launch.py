"""How runs are started: the code location's defaults, and missions materialised in this process."""

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dagster as dg

from stage_a_pipeline.defs import (
    checks,
    data_sets,
    delivery,
    evaluation,
    ingest,
    reassembly,
    report,
    stage_a,
    stage_b,
    stage_b_checks,
)
from stage_a_pipeline.defs.io_managers import ParquetStore
from stage_a_pipeline.defs.kubernetes import pod_per_step, reassembly_run_tags, run_tags
from stage_a_pipeline.defs.partitions import SETTINGS_AT_LOAD
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.errors import StageAError

ASSETS: Final = [
    ingest.image_groups,
    ingest.sampled_groups,
    ingest.fail_reasons,
    stage_a.stage_a_summaries,
    delivery.clean_summaries,
    delivery.enriched_records,
    delivery.stage_a_jsonl,
    report.stage_a_report,
    evaluation.stage_a_evaluation,
]
STAGE_B_ASSETS: Final = [stage_b.stage_b_dataset, stage_b.stage_b_adapter, stage_b.stage_b_evaluation]
STAGE_B_CHECKS: Final = [stage_b_checks.stage_b_tickets_are_sound]
REASSEMBLY_ASSETS: Final = [reassembly.reassembled_object, reassembly.model_comparison]
SENSORS: Final = [data_sets.new_data_sets]
CHECKS: Final = dg.load_asset_checks_from_modules([checks])
MISSION_JOB: Final = dg.define_asset_job(
    "stage_a_mission",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="Everything from one mission's photos to its delivered file, its report, and how true it is.",
    tags=run_tags(SETTINGS_AT_LOAD),
)
STAGE_B_JOB: Final = dg.define_asset_job(
    "stage_b",
    selection=dg.AssetSelection.assets(*STAGE_B_ASSETS),
    description="An adapter for verdicts, trained on all that was delivered, and how well it judges.",
    tags=run_tags(SETTINGS_AT_LOAD),
)
REASSEMBLY_JOB: Final = dg.define_asset_job(
    "reassembly",
    selection=dg.AssetSelection.assets(*REASSEMBLY_ASSETS),
    description="A data set's patches to one object per model, and the models compared with the true one.",
    tags=reassembly_run_tags(SETTINGS_AT_LOAD),
)


@dataclass(frozen=True, slots=True)
class MissionRun:
    """How one mission's run ended; `error` is None when everything was published."""

    mission: str
    error: str | None = None


def default_executor() -> dg.ExecutorDefinition:
    """One device needs no process per step, whose imports alone take seconds; several devices do.

    Raises ConfigurationError where pods are asked for and dagster-k8s is missing.
    """
    if SETTINGS_AT_LOAD.execution.executor == "k8s":
        return pod_per_step()
    several = len(SETTINGS_AT_LOAD.engine.devices) > 1
    return dg.multiprocess_executor if several else dg.in_process_executor


def default_resources(
    settings: SettingsResource | None = None, progress: LogProgress | None = None
) -> dict[str, Any]:
    """The resources of the code location, or those of one run in this process."""
    # Configured at launch, run config reaches the stores below as well as the assets.
    chosen = settings or SettingsResource.configure_at_launch()
    return {
        "settings": chosen,
        "progress": progress or LogProgress(),
        "io_manager": ParquetStore(settings=chosen, folder="tables"),
        "scratch_io": ParquetStore(settings=chosen, folder="scratch"),
    }


def materialise_missions(
    missions: Sequence[str], *, settings: SettingsResource, progress: LogProgress, verbose: bool = False
) -> Iterator[MissionRun]:
    """Materialise every asset of each mission in this process, one run per mission.

    A failed mission does not keep the next from running. The runs are seen in the Dagster UI when
    DAGSTER_HOME is set; without it they leave nothing but their files.
    """
    persistent = bool(os.environ.get("DAGSTER_HOME"))
    with dg.DagsterInstance.get() if persistent else dg.DagsterInstance.ephemeral() as instance:
        for mission in missions:
            with _stop_signal_kept():
                run = _materialise(mission, instance, default_resources(settings, progress), verbose=verbose)
            yield run


@contextmanager
def _stop_signal_kept() -> Iterator[None]:
    """Dagster leaves SIGTERM with the handler of SIGINT, which is none in the background of a script."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def step_seconds(dagster_home: Path) -> dict[str, float]:
    """How long each step of the latest run took that is recorded in a DAGSTER_HOME."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        (run,) = instance.get_runs(limit=1)
        return {
            step.step_key: step.end_time - step.start_time
            for step in instance.get_run_step_stats(run.run_id)
            if step.start_time is not None and step.end_time is not None
        }


def _materialise(
    mission: str, instance: dg.DagsterInstance, resources: dict[str, Any], *, verbose: bool
) -> MissionRun:
    level = "INFO" if verbose else "CRITICAL"
    location = dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=[MISSION_JOB],
        resources=resources,
        executor=dg.in_process_executor,
    )
    try:
        location.resolve_job_def(MISSION_JOB.name).execute_in_process(
            partition_key=mission,
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": level}}}},
        )
    except (StageAError, dg.DagsterError) as error:
        return MissionRun(mission, str(error))
    # A fault of ours in one mission must not cost the next; it is shown whole, and fails the command.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return MissionRun(mission, f"unexpected {type(error).__name__}: {error}")
    return MissionRun(mission)

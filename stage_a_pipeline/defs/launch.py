"""How runs are started: the code location's defaults, and missions materialised in this process."""

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import dagster as dg

from stage_a_pipeline.defs import arrivals, checks, conditions, data_sets, incidents, stage_b_checks
from stage_a_pipeline.defs.io_managers import ParquetStore
from stage_a_pipeline.defs.jobs import ASSETS, MISSION_JOB
from stage_a_pipeline.defs.kubernetes import pod_per_step
from stage_a_pipeline.defs.partitions import SETTINGS_AT_LOAD
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.settings import Settings

STAGE_B_CHECKS: Final = [stage_b_checks.stage_b_tickets_are_sound]
SENSORS: Final = [
    arrivals.new_or_changed_groups,
    conditions.automation_conditions,
    data_sets.new_data_sets,
    incidents.incidents,
]
SCHEDULES: Final = [arrivals.nightly]
CHECKS: Final = dg.load_asset_checks_from_modules([checks])


@dataclass(frozen=True, slots=True)
class MissionRun:
    """How one mission's run ended; `error` is None when everything was published.

    `remarks` say where the failure is written down, and who could not be told of it.
    """

    mission: str
    run_id: str
    error: str | None = None
    remarks: tuple[str, ...] = ()


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
            yield replace(run, remarks=_tell(run, instance, settings.load()))


def _tell(run: MissionRun, instance: dg.DagsterInstance, settings: Settings) -> tuple[str, ...]:
    """A failed run told to people, as the sensor tells of it where there is a daemon."""
    remarks: list[str] = []
    recorded = instance.get_run_by_id(run.run_id) if run.error is not None else None
    if recorded is not None:
        incidents.tell_failure(instance, recorded, settings, info=remarks.append, warn=remarks.append)
    return tuple(remarks)


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
    run_id = str(uuid4())
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
            run_id=run_id,
            run_config={"loggers": {"console": {"config": {"log_level": level}}}},
        )
    except (StageAError, dg.DagsterError) as error:
        return MissionRun(mission, run_id, str(error))
    # A fault of ours in one mission must not cost the next; it is shown whole, and fails the command.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return MissionRun(mission, run_id, f"unexpected {type(error).__name__}: {error}")
    return MissionRun(mission, run_id)

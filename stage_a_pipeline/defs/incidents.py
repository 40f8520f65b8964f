"""Failed runs told to people: a short file each, and a webhook where one is set."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._utils.error import SerializableErrorInfo

from stage_a_pipeline import errors
from stage_a_pipeline.defs.jobs import ASSETS, JOBS, REASSEMBLY_ASSETS, STAGE_B_ASSETS
from stage_a_pipeline.defs.partitions import MISSIONS
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.defs.run_tags import missions_of
from stage_a_pipeline.errors import OutputError, StageAError
from stage_a_pipeline.incidents import FailedStep, Incident, to_json, write_incident
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.webhook import post

_JOBS: Final = {job.name for job in JOBS}
_ASSETS: Final = {key for asset in (*ASSETS, *STAGE_B_ASSETS, *REASSEMBLY_ASSETS) for key in asset.keys}
_LAST_FRAMES: Final = 4


# Runs of the command line name no code location: which runs are ours is told by job and assets.
@dg.run_failure_sensor(
    name="incidents",
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes a short file for each failed run into `work/incidents` of the output folder, and "
    "posts it to `automation.webhook_url` where that is set.",
)
def incidents(context: dg.RunFailureSensorContext, settings: SettingsResource) -> None:
    """One file per failed run, however often it is looked at."""
    if _is_ours(context.dagster_run):
        tell_failure(
            context.instance,
            context.dagster_run,
            settings.load(),
            info=context.log.info,
            warn=context.log.warning,
        )


def tell_failure(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    settings: Settings,
    *,
    info: Callable[[str], None],
    warn: Callable[[str], None],
) -> Path | None:
    """Write the incident, and post it; None when there is no new file. Never raises a StageAError.

    An incident that has its file was told before.
    """
    incident = describe_failure(instance, run, ui_url=settings.automation.ui_url)
    path = None
    try:
        path = write_incident(settings.output.work_dir / "incidents", incident)
        if path is None:
            return None
        info(f"incident: {path}")
    except OutputError as error:
        warn(f"the incident of run {run.run_id} has no file: {error}")
    url = settings.automation.webhook_url
    if url is not None and (refusal := post(url, to_json(incident, path))) is not None:
        warn(f"{refusal}: nobody was told of run {run.run_id} there")
    return path


def describe_failure(instance: dg.DagsterInstance, run: dg.DagsterRun, *, ui_url: str) -> Incident:
    """What the instance knows of a failed run."""
    record = instance.get_run_record_by_id(run.run_id)
    ended = record.end_time if record is not None and record.end_time is not None else time.time()
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    return Incident(
        run_id=run.run_id,
        job=run.job_name,
        time=datetime.fromtimestamp(ended, UTC),
        missions=missions_of(run.tags, tuple(MISSIONS))
        or tuple(filter(None, [run.tags.get("dagster/partition")])),
        steps=tuple(_failed_steps(events)),
        failed_checks=tuple(_failed_checks(events)),
        message=_run_message(events),
        run_url=f"{ui_url}/runs/{run.run_id}",
        log=_log_folder(instance, run.run_id),
    )


def _is_ours(run: dg.DagsterRun) -> bool:
    return run.job_name in _JOBS or bool(run.asset_selection and run.asset_selection <= _ASSETS)


def _failed_steps(events: Iterable[dg.DagsterEvent]) -> Iterator[FailedStep]:
    for event in events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            yield _failed_step(event.step_key or "", list(_causes(error)) if error else [])


def _failed_step(step: str, causes: list[SerializableErrorInfo]) -> FailedStep:
    """By the first of ours among the causes; else by the last, which is where it began."""
    ours = next((cause for cause in causes if _is_ours_error(cause)), None)
    told = ours or (causes[-1] if causes else None)
    if told is None:
        return FailedStep(step, "no error was recorded")
    lines = () if ours else tuple("".join(told.stack[-_LAST_FRAMES:]).splitlines())
    return FailedStep(step, _bare(told), lines, is_ours=ours is not None)


def _causes(error: SerializableErrorInfo) -> Iterator[SerializableErrorInfo]:
    current: SerializableErrorInfo | None = error
    while current is not None:
        yield current
        current = current.cause


def _is_ours_error(error: SerializableErrorInfo) -> bool:
    kind = getattr(errors, error.cls_name or "", None)
    return isinstance(kind, type) and issubclass(kind, StageAError)


def _bare(error: SerializableErrorInfo) -> str:
    """The message, without the module of its class."""
    return error.message.strip().removeprefix(f"{errors.__name__}.")


def _failed_checks(events: Iterable[dg.DagsterEvent]) -> Iterator[str]:
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
                name = f"{found.check_name} of {found.asset_key.to_user_string()}"
                yield f"{name}: {found.description or 'failed'}"


def _run_message(events: Iterable[dg.DagsterEvent]) -> str:
    told = [event.message for event in events if event.is_run_failure and event.message]
    return told[-1] if told else "the run failed"


def _log_folder(instance: dg.DagsterInstance, run_id: str) -> Path | None:
    """Where the output of the run's steps lies, if on this machine."""
    logs = instance.compute_log_manager
    if not isinstance(logs, LocalComputeLogManager):
        return None
    folder = Path(logs.get_captured_local_path([run_id, "compute_logs", "any"], "err")).parent
    return folder if folder.is_dir() else None

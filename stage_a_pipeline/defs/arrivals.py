"""What starts runs: the sensor for new or changed groups, and the nightly schedule."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

import dagster as dg

from stage_a_pipeline import arrivals
from stage_a_pipeline.arrivals import Wanted
from stage_a_pipeline.defs.jobs import ALL_JOB, MISSION_JOB
from stage_a_pipeline.defs.partitions import MISSIONS, SETTINGS_AT_LOAD
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.defs.run_tags import LISTING, STARTED_BY, missions_of, span_tags
from stage_a_pipeline.errors import ConfigurationError, StageAError

_AUTOMATION: Final = SETTINGS_AT_LOAD.automation
_NAMES: Final = tuple(MISSIONS)
_UNDER_WAY: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job=MISSION_JOB,
    minimum_interval_seconds=_AUTOMATION.sensor_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING if _AUTOMATION.sensor else dg.DefaultSensorStatus.STOPPED,
)
def new_or_changed_groups(
    context: dg.SensorEvaluationContext, settings: SettingsResource
) -> dg.SensorResult | dg.SkipReason:
    """A run of each mission whose groups are new or have changed, once they have settled.

    The cursor holds a hash per mission; without it, what is not delivered counts as new.
    """
    try:
        loaded = settings.load()
        follow = loaded.discovery.allow_external_symlinks
        seen = arrivals.look(loaded.require_input_root(), MISSIONS, allow_external_symlinks=follow)
    # The cursor stays as it is: once the root is there again, nothing has changed in between.
    except StageAError as error:
        return dg.SkipReason(str(error))
    decision = arrivals.decide(
        arrivals.from_cursor(context.cursor),
        seen,
        delivered=_delivered(context.instance, [listing.mission for listing in seen.listings]),
        under_way=_under_way(context.instance),
        now=time.time(),
        settle_seconds=loaded.automation.settle_seconds,
    )
    for why in decision.waiting:
        context.log.info(why)
    cursor = arrivals.to_cursor(decision.watched)
    if decision.wanted:
        return dg.SensorResult(run_requests=[_request(one) for one in decision.wanted], cursor=cursor)
    reason = dg.SkipReason(arrivals.sentence(decision.waiting, seen))
    return dg.SensorResult(skip_reason=reason, cursor=cursor)


def _request(wanted: Wanted) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=wanted.key,
        partition_key=wanted.listing.mission,
        tags={STARTED_BY: "new_or_changed_groups", LISTING: wanted.listing.hash},
    )


def _delivered(instance: dg.DagsterInstance, missions: Iterable[str]) -> dict[str, str]:
    """What each mission's delivered file was made of, as far as the instance knows."""
    found = {}
    for mission in missions:
        selected = dg.AssetRecordsFilter(asset_key=dg.AssetKey("stage_a_jsonl"), asset_partitions=[mission])
        records = instance.fetch_materializations(selected, limit=1).records
        materialised = records[0].asset_materialization if records else None
        if materialised is not None and (listing := materialised.metadata.get("listing")) is not None:
            found[mission] = str(listing.value)
    return found


def _under_way(instance: dg.DagsterInstance) -> set[str]:
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    return {mission for run in runs for mission in missions_of(run.tags, _NAMES)}


def _nightly() -> dg.ScheduleDefinition:
    try:
        return dg.ScheduleDefinition(
            name="nightly",
            job=ALL_JOB,
            cron_schedule=_AUTOMATION.nightly_cron,
            execution_timezone=_AUTOMATION.timezone,
            execution_fn=_tonight,
            required_resource_keys={"settings"},
            default_status=dg.DefaultScheduleStatus.RUNNING
            if _AUTOMATION.nightly
            else dg.DefaultScheduleStatus.STOPPED,
            description="All missions that have a folder in the input root, in one run. What was answered "
            "before is not asked again; what failed during the day is tried again.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise ConfigurationError(
            f"setting automation.nightly_cron: {_AUTOMATION.nightly_cron!r} is no time; give minute, hour, "
            "day of the month, month and weekday, such as '0 2 * * *'"
        ) from error


def _tonight(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    settings: SettingsResource = context.resources.settings
    try:
        loaded = settings.load()
        follow = loaded.discovery.allow_external_symlinks
        root = loaded.require_input_root()
        present = arrivals.missions_with_folder(root, MISSIONS, allow_external_symlinks=follow)
    except StageAError as error:
        return dg.SkipReason(str(error))
    if not present:
        return dg.SkipReason(f"no mission has a folder in the input root {root}")
    if busy := _runs_of_all(context.instance):
        return dg.SkipReason(f"the run of all missions {busy[0].run_id} is still under way")
    return dg.RunRequest(tags={**span_tags(present), STARTED_BY: "nightly"})


def _runs_of_all(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(job_name=ALL_JOB.name, statuses=_UNDER_WAY), limit=1)


nightly: Final = _nightly()

"""Data sets become partitions: by a sensor in the daemon, or by `stage-a data-sets`."""

import os
from dataclasses import dataclass

import dagster as dg

from stage_a_pipeline.defs.partitions import DATA_SETS, SETTINGS_AT_LOAD, data_set_partitions
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.reassembly.data_set import list_data_sets
from stage_a_pipeline.settings_reassembly import ReassemblySettings

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class FoundDataSets:
    """The data sets of the folder, and those of them that an instance has no partition for."""

    names: tuple[str, ...]
    new: tuple[str, ...]


def find_new(instance: dg.DagsterInstance, settings: ReassemblySettings) -> FoundDataSets:
    """Raises ConfigurationError. Partitions whose folder has gone are left as they are."""
    names = list_data_sets(settings)
    known = set(instance.get_dynamic_partitions(DATA_SETS))
    return FoundDataSets(names, tuple(name for name in names if name not in known))


@dg.sensor(
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED
    if SETTINGS_AT_LOAD.reassembly.data_dir is None
    else dg.DefaultSensorStatus.RUNNING,
)
def new_data_sets(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """A partition for each folder in reassembly.data_dir that has a test_data.npz; none is removed."""
    if SETTINGS_AT_LOAD.reassembly.data_dir is None:
        return dg.SkipReason("reassembly.data_dir is not set: there are no data sets to look for")
    found = find_new(context.instance, SETTINGS_AT_LOAD.reassembly)
    if not found.new:
        return dg.SkipReason(f"nothing new among {len(found.names)} data sets")
    return dg.SensorResult(
        skip_reason=dg.SkipReason(f"new, and to be materialised: {', '.join(found.new)}"),
        dynamic_partitions_requests=[data_set_partitions.build_add_request(list(found.new))],
    )


def add_data_sets(settings: ReassemblySettings) -> FoundDataSets | None:
    """Add what is new to the instance of DAGSTER_HOME; None without one. Raises ConfigurationError."""
    if not os.environ.get("DAGSTER_HOME"):
        return None
    try:
        with dg.DagsterInstance.get() as instance:
            found = find_new(instance, settings)
            instance.add_dynamic_partitions(DATA_SETS, found.new)
    except dg.DagsterError as error:
        raise ConfigurationError(f"DAGSTER_HOME cannot be used: {error}") from error
    return found

"""Tags of runs: what they run on, what they are of, and what they may do without."""

from collections.abc import Mapping, Sequence
from typing import Final

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from stage_a_pipeline.settings import Settings

DEVICE: Final = "stage_a/device"
ENGINE: Final = "stage_a/engine"
STARTED_BY: Final = "stage_a/started_by"
LISTING: Final = "stage_a/listing"
"""What the sensor has seen of the mission's groups."""
MISSIONS: Final = "stage_a/missions"
WITH_FOLDER: Final = "with_folder"
"""Of `stage_a/missions`: a mission that has no folder in the input root is no part of the run."""
PARTITION: Final = "dagster/partition"
FIRST: Final = "dagster/asset_partition_range_start"
LAST: Final = "dagster/asset_partition_range_end"


def engine_tags(settings: Settings) -> dict[str, str]:
    """What summarises photos, and on which devices; `none` for an engine that uses none of its own."""
    devices = ",".join(settings.engine.devices) if settings.engine.uses_device else "none"
    return {DEVICE: devices, ENGINE: settings.engine.engine}


def reassembly_engine_tags(settings: Settings) -> dict[str, str]:
    """What stitches patches, and on which device."""
    return {DEVICE: settings.reassembly.device, ENGINE: "reassembly"}


def span_tags(missions: Sequence[str]) -> dict[str, str]:
    """One run from the first to the last mission, in the table's order, as far as they have folders."""
    return {FIRST: missions[0], LAST: missions[-1], MISSIONS: WITH_FOLDER}


def may_lack_folders(tags: Mapping[str, str]) -> bool:
    """Whether the run is one of whichever missions have a folder."""
    return tags.get(MISSIONS) == WITH_FOLDER


def missions_of(tags: Mapping[str, str], known: Sequence[str]) -> tuple[str, ...]:
    """The missions that a run with these tags is of; none for a run without, or of other partitions."""
    if (only := tags.get(PARTITION)) is not None:
        return (only,) if only in known else ()
    first, last = tags.get(FIRST), tags.get(LAST)
    if first not in known or last not in known:
        return ()
    return tuple(known[known.index(first) : known.index(last) + 1])


def tag_run(context: dg.AssetExecutionContext | dg.OpExecutionContext, tags: Mapping[str, str]) -> None:
    """Tag a run whose start knew nothing of its settings: one without a job, or with run config."""
    if all(context.run.tags.get(name) == value for name, value in tags.items()):
        return
    try:
        context.instance.add_run_tags(context.run.run_id, dict(tags))
    # A database that is busy is no reason to fail a run that could do without its tags.
    except SQLAlchemyError as error:
        context.log.warning(f"the run could not be tagged with {dict(tags)}: {type(error).__name__}")

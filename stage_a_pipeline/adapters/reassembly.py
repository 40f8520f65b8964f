"""Data sets that are stitched on a leased device, by one run at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from stage_a_pipeline.inference.devices import Worker, leased
from stage_a_pipeline.reassembly.comparison import ComparisonAudience
from stage_a_pipeline.reassembly.data_set import (
    ComparedDataSet,
    DataSet,
    compare_data_set,
    find_data_set,
    stitch_data_set,
)
from stage_a_pipeline.reassembly.device import choose_device
from stage_a_pipeline.reassembly.stitched_object import StitchedObject
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output


def stitch_on_device(
    settings: Settings, name: str, audience: ComparisonAudience, *, run_id: str
) -> tuple[StitchedObject, ...]:
    """As stitch_data_set, once a GPU that is to do it is this process's.

    LockedError at once while another run is at the same data set.
    """
    data_set = find_data_set(settings.reassembly, name, output=settings.reassembly_dir)
    device = choose_device(settings.reassembly.device)
    place = device.type if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    with ExitStack() as held:
        held.enter_context(_claim(data_set, run_id))
        # The CPU needs no lease: stitching takes one thread and the memory of a canvas.
        if device.type != "cpu":
            held.enter_context(leased(Worker(place), settings.inference.lease_dir, on_wait=audience.notice))
        return stitch_data_set(data_set, settings.reassembly, audience, device=place)


def compare_stitched(
    settings: Settings, name: str, audience: ComparisonAudience, *, run_id: str
) -> ComparedDataSet:
    """As compare_data_set. LockedError at once while another run is at the same data set."""
    data_set = find_data_set(settings.reassembly, name, output=settings.reassembly_dir)
    with _claim(data_set, run_id):
        return compare_data_set(data_set, settings.reassembly, audience)


def _claim(data_set: DataSet, run_id: str) -> AbstractContextManager[None]:
    return claim_output(
        data_set.results,
        "objects",
        run_id=run_id,
        purpose="reassemble a data set",
        what="what is made of this data set",
    )

"""From outcomes per photo to whole groups in discovery order, and the verdict over a run.

A mission may have a million photos: outcomes pass through here a batch of rows at a time, or one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.records import Group, GroupRecord, Outcome, Rejection, Summary
from stage_a_pipeline.table_files import Table, batches_of

_FORGIVEN_GROUPS: Final = 1
"""One rejected group never fails a run, however small the run is."""

Numbers = npt.NDArray[np.int64]


def group_sizes(groups: Iterable[Table]) -> Numbers:
    """How many photos each group has, over all tables of groups."""
    batches = [batch for table in groups for batch in batches_of(table, ["images"])]
    sizes = [pc.list_value_length(batch.column("images")) for batch in batches]
    return np.concatenate([np.empty(0, np.int64), *map(np.asarray, sizes)]).astype(np.int64)


def order_outcomes(shards: Sequence[Table], sizes: Numbers) -> Iterator[pa.RecordBatch]:
    """The rows of all shards by group and image; no batch holds those of two missions.

    `sizes` are those of all groups. Exactly one outcome per photo is an invariant of the shards, and
    asserted here. A row waits for those before it: since every shard goes through its photos in order,
    never many do.
    """
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    waiting: pa.RecordBatch | None = None
    done = found = 0
    for batch in _side_by_side(shards):
        found += batch.num_rows
        waiting = batch if waiting is None else pa.concat_batches([waiting, batch])
        numbers = _photo_numbers(waiting, sizes, ends)
        order = np.argsort(numbers)
        ready = int(np.cumprod(numbers[order] == np.arange(done, done + len(order))).sum())
        yield from _by_mission(waiting.take(order[:ready]))
        waiting = waiting.take(order[ready:])
        done += ready
    assert done == found == total, f"{found} outcomes for {total} photos, or not one each"


def _side_by_side(shards: Sequence[Table]) -> Iterator[pa.RecordBatch]:
    """The batches of all shards, always of the one that is furthest behind."""
    reached = {iter(batches_of(shard)): -1 for shard in shards}
    while reached:
        last = min(reached, key=reached.__getitem__)
        batch = next(last, None)
        if batch is None:
            del reached[last]
        elif batch.num_rows:
            reached[last] = batch.column("group_index")[-1].as_py()
            yield batch


def _photo_numbers(batch: pa.RecordBatch, sizes: Numbers, ends: Numbers) -> Numbers:
    """The place of each row's photo among all photos, from 0."""
    groups, images = (np.asarray(batch.column(name)) for name in ("group_index", "image_index"))
    assert ((images >= 1) & (images <= sizes[groups])).all(), "an outcome of a photo that is not there"
    numbers: Numbers = ends[groups] - sizes[groups] + images - 1
    return numbers


def _by_mission(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for mission in pc.unique(batch.column("mission")):
        yield batch.filter(pc.equal(batch.column("mission"), mission))


def counted_from(first: int, outcomes: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with their groups' places counted from `first`."""
    column = outcomes.schema.get_field_index("group_index")
    places = pc.subtract(outcomes.column(column), first)
    return outcomes.set_column(column, outcomes.schema.field(column), places)


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """How many photos have an outcome, and how many of them and of their groups are rejected."""

    photos: int
    rejected: int
    groups_rejected: int


def count_outcomes(outcomes: Table) -> OutcomeCounts:
    """The counts over a table of outcomes."""
    rejected, groups = 0, set()
    for batch in batches_of(outcomes, ["group_index", "status"]):
        lost = batch.filter(pc.equal(batch.column("status"), "rejected"))
        rejected += lost.num_rows
        groups.update(pc.unique(lost.column("group_index")).to_pylist())
    return OutcomeCounts(outcomes.num_rows, rejected, len(groups))


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """How many photos are in some records, and how many of these have fail reasons."""

    photos: int
    with_fail_reasons: int


def count_records(records: Table) -> RecordCounts:
    """The counts over a table of records."""
    photos = with_reasons = 0
    for batch in batches_of(records, ["images", "fail_reasons"]):
        photos += len(batch.column("images").flatten())
        reasons = pc.list_value_length(batch.column("fail_reasons"))
        with_reasons += pc.sum(pc.greater(reasons, 0)).as_py() or 0
    return RecordCounts(photos, with_reasons)


def clean_outcomes(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Every summary with its clean text; one that cleaning cannot make usable becomes a rejection."""
    for outcome in outcomes:
        yield _clean(outcome) if isinstance(outcome, Summary) else outcome


def assemble_records(groups: Iterable[Group], outcomes: Iterable[Outcome]) -> Iterator[GroupRecord]:
    """One record per group whose photos all have a clean summary, in discovery order.

    `outcomes` are those of all photos of the groups, in that order.
    """
    rest = iter(outcomes)
    for index, group in enumerate(groups):
        own = [next(rest) for _ in group.images]
        assert all(outcome.ref.group_index == index for outcome in own), "outcomes stand in order"
        texts = tuple(outcome.text for outcome in own if isinstance(outcome, Summary))
        assert all(texts), "records are assembled from cleaned summaries"
        if len(texts) == len(own):
            yield GroupRecord(
                group_id=group.group_id,
                mission=group.mission,
                label=group.label,
                images=tuple(image.name for image in group.images),
                summaries=texts,
            )


def check_failure_budget(*, groups: int, rejected: int, max_failed_fraction: float) -> None:
    """Refuse to publish a run that lost too much.

    FailureBudgetError when every group was rejected, or when at least two were and they are more
    than `max_failed_fraction` of all.
    """
    if rejected == groups or (rejected > _FORGIVEN_GROUPS and rejected > max_failed_fraction * groups):
        raise FailureBudgetError(
            f"{rejected} of {groups} groups were rejected; at most {max_failed_fraction:.0%} may be "
            "(inference.max_failed_fraction)"
        )


def _clean(summary: Summary) -> Outcome:
    clean = clean_summary(summary.raw_text)
    reason = defect(clean)
    if reason is None:
        return replace(summary, text=clean.text, flags=clean.flags)
    return Rejection(
        summary.ref,
        "clean",
        reason,
        f"{summary.ref.group.group_id}/{summary.ref.image.name}: the answer is {reason}",
        raw_text=summary.raw_text,
        content_sha256=summary.content_sha256,
        attempts=summary.attempts,
    )

"""Arrow tables of the records, as assets hand them over in Parquet.

A photo stands in a table by its group's place and its own; the group itself stands once, in the
table of groups. Tables of photos and records carry a digest of the groups they belong to: read
beside any other groups, they are refused rather than paired up by place.

Tables are made and read row by row. Those of a whole mission are given a `folder` and stand in a file
there; without one they stand in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from stage_a_pipeline.errors import StaleTableError
from stage_a_pipeline.places import as_place
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Outcome, Rejection, Summary
from stage_a_pipeline.table_files import BATCH_ROWS, Table, batches_of, scratch_table
from stage_a_pipeline.table_schemas import FAIL_REASONS, GROUPS, OUTCOMES, RECORDS, SHARD

Status = Literal["summarised", "rejected"]
T = TypeVar("T", bound=Table)

_GROUPS_DIGEST: Final = "groups_sha256"


def groups_to_table(groups: Sequence[Group], folder: Path | None = None) -> Table:
    """Groups as GROUPS, in the given order."""
    rows = (
        {
            "mission": group.mission,
            "label": group.label,
            "group_id": group.group_id,
            "folder": str(group.folder),
            "images": [image.name for image in group.images],
        }
        for group in groups
    )
    return with_metadata(_table(GROUPS, rows, folder), {_GROUPS_DIGEST: _digest(groups)})


def groups_from_table(table: Table) -> Iterator[Group]:
    """The inverse of `groups_to_table`."""
    for row in _rows(table):
        folder = as_place(row["folder"])
        yield Group(
            mission=row["mission"],
            label=row["label"],
            group_id=row["group_id"],
            folder=folder,
            images=tuple(Image(folder, name) for name in row["images"]),
        )


def _digest(groups: Iterable[Group]) -> str:
    """SHA-256 over the groups, their places and their photos' names."""
    digest = hashlib.sha256()
    for group in groups:
        names = [image.name for image in group.images]
        row = [group.mission, group.label, group.group_id, str(group.folder), names]
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()


def groups_digest(groups: Sequence[Table]) -> str:
    """What tables of these groups' photos are marked with: a digest of one table of groups, or of several.

    StaleTableError for groups that an older version stored, which are not marked.
    """
    digests = [table_metadata(table).get(_GROUPS_DIGEST, "") for table in groups]
    if not all(digests):
        raise StaleTableError(
            "sampled_groups was stored by an older version; materialise it and everything behind it again"
        )
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def require_groups(table: Table, *groups: Table) -> None:
    """StaleTableError unless the table was made for exactly these groups."""
    if table_metadata(table).get(_GROUPS_DIGEST) != groups_digest(groups):
        raise StaleTableError(
            "the sampled groups have changed since these results were made; "
            "materialise stage_a_summaries and everything behind it again"
        )


def shard_to_table(refs: Iterable[ImageRef], *groups: Table) -> Table:
    """The places of a shard's photos among these groups."""
    rows = ({"group_index": ref.group_index, "image_index": ref.image_index} for ref in refs)
    return of_groups(_table(SHARD, rows), *groups)


def shard_from_table(table: Table, groups: Sequence[Group]) -> list[ImageRef]:
    """The photos of a shard; `groups` are those that it was planned for."""
    return [
        ImageRef(row["group_index"], row["image_index"], groups[row["group_index"]]) for row in _rows(table)
    ]


def outcomes_to_table(outcomes: Iterable[Outcome], groups: Table, folder: Path | None = None) -> Table:
    """Outcomes as OUTCOMES, in the given order; `groups` are the sampled groups their places refer to."""
    return of_groups(_table(OUTCOMES, map(outcome_row, outcomes), folder), groups)


def outcomes_from_table(table: Table, groups: Table, *, status: Status | None = None) -> Iterator[Outcome]:
    """The outcomes of a table that stands in the order of its groups: all, or those of one status.

    StaleTableError when they are of other groups.
    """
    require_groups(table, groups)
    return outcomes_among(table, _GroupsAlong(groups), status=status)


def outcomes_among(
    table: Table, group_at: Callable[[int], Group], *, status: Status | None = None
) -> Iterator[Outcome]:
    """The outcomes of a table in its order: all, or those of one status. `group_at` knows their groups."""
    for batch in batches_of(table):
        chosen = batch if status is None else batch.filter(pc.equal(batch.column("status"), status))
        for row in chosen.to_pylist():
            yield _outcome(row, group_at(row["group_index"]))


def rejections_from_table(table: Table, groups: Table) -> Iterator[Rejection]:
    """The rejections among the outcomes of a table. StaleTableError as outcomes_from_table."""
    for outcome in outcomes_from_table(table, groups, status="rejected"):
        assert isinstance(outcome, Rejection)
        yield outcome


class _GroupsAlong:
    """Groups by their place, for somebody who asks in ascending order: one is held at a time."""

    def __init__(self, groups: Table) -> None:
        self._rest = enumerate(groups_from_table(groups))
        self._place = -1
        self._group: Group

    def __call__(self, place: int) -> Group:
        while self._place < place:
            self._place, self._group = next(self._rest)
        assert self._place == place, "the outcomes stand in the order of their groups"
        return self._group


def records_to_table(records: Iterable[GroupRecord], groups: Table, folder: Path | None = None) -> Table:
    """Group records as RECORDS, in the given order; `groups` are the sampled groups they come from."""
    rows = (
        {
            "mission": record.mission,
            "label": record.label,
            "group_id": record.group_id,
            "images": record.images,
            "summaries": record.summaries,
            "fail_reasons": record.fail_reasons,
        }
        for record in records
    )
    return of_groups(_table(RECORDS, rows, folder), groups)


def records_from_table(table: Table) -> Iterator[GroupRecord]:
    """The inverse of `records_to_table`."""
    for row in _rows(table):
        yield GroupRecord(
            group_id=row["group_id"],
            mission=row["mission"],
            label=row["label"],
            images=tuple(row["images"]),
            summaries=tuple(row["summaries"]),
            fail_reasons=None if row["fail_reasons"] is None else tuple(row["fail_reasons"]),
        )


def fail_reasons_to_table(by_ticket: Mapping[tuple[str, str], tuple[str, ...]]) -> pa.Table:
    """Fail reasons by (group id, mission) as FAIL_REASONS, sorted by ticket."""
    return _table(
        FAIL_REASONS,
        (
            {"group_id": group_id, "mission": mission, "reasons": list(reasons)}
            for (group_id, mission), reasons in sorted(by_ticket.items())
        ),
    )


def fail_reasons_from_table(table: Table) -> dict[tuple[str, str], tuple[str, ...]]:
    """The inverse of `fail_reasons_to_table`."""
    return {(row["group_id"], row["mission"]): tuple(row["reasons"]) for row in _rows(table)}


def with_metadata(table: T, metadata: Mapping[str, str]) -> T:
    """The table with these texts added to its schema metadata."""
    return table.replace_schema_metadata(table_metadata(table) | dict(metadata))


def table_metadata(table: Table) -> dict[str, str]:
    """The texts of `with_metadata`; what pyarrow adds of its own is left out."""
    raw: Mapping[bytes, bytes] = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items() if key != b"ARROW:schema"}


def of_groups(table: T, *groups: Table) -> T:
    """The table marked as one of the groups that its places refer to."""
    return with_metadata(table, {_GROUPS_DIGEST: groups_digest(groups)})


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """One row of OUTCOMES."""
    group = outcome.ref.group
    row: dict[str, Any] = {
        "group_index": outcome.ref.group_index,
        "image_index": outcome.ref.image_index,
        "mission": group.mission,
        "label": group.label,
        "group_id": group.group_id,
        "image": outcome.ref.image.name,
        "raw_text": outcome.raw_text,
        "attempts": outcome.attempts,
        "content_sha256": outcome.content_sha256,
        "flags": [],
        "reused": False,
    }
    if isinstance(outcome, Rejection):
        rejected = {"stage": outcome.stage, "reason": outcome.reason, "detail": outcome.detail}
        return {**row, "status": "rejected", **rejected}
    return {
        **row,
        "status": "summarised",
        "text": outcome.text or None,
        "flags": list(outcome.flags),
        "finish_reason": outcome.finish_reason,
        "prompt_tokens": outcome.prompt_tokens,
        "generated_tokens": outcome.generated_tokens,
        "reused": outcome.reused,
    }


def _outcome(row: Mapping[str, Any], group: Group) -> Outcome:
    ref = ImageRef(row["group_index"], row["image_index"], group)
    if row["status"] == "rejected":
        return Rejection(
            ref,
            row["stage"],
            row["reason"],
            row["detail"],
            raw_text=row["raw_text"],
            content_sha256=row["content_sha256"],
            attempts=row["attempts"],
        )
    return Summary(
        ref=ref,
        content_sha256=row["content_sha256"],
        raw_text=row["raw_text"],
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        generated_tokens=row["generated_tokens"],
        attempts=row["attempts"],
        reused=row["reused"],
        text=row["text"] or "",
        flags=tuple(row["flags"]),
    )


def _table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]], folder: Path | None = None) -> Table:
    batches = rows_to_batches(schema, rows)
    if folder is not None:
        return scratch_table(schema, batches, folder)
    table: Table = pa.Table.from_batches(batches, schema=schema)
    return table


def rows_to_batches(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    """The rows in record batches, as they come."""
    rest = iter(rows)
    while chunk := list(islice(rest, BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    for batch in batches_of(table):
        yield from batch.to_pylist()

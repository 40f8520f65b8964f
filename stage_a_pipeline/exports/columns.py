"""The columns of exported tables: one row a photo, and one a group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from stage_a_pipeline.exports.photo_bytes import Images
from stage_a_pipeline.exports.photos import DeliveredPhoto, PartCount, ValueCount, said_by

_TEXT, _NUMBER = pa.string(), pa.int32()
_VALUE: Final = pa.struct(
    [("category", _TEXT), ("attribute", _TEXT), ("value", _TEXT), ("count", pa.int64())]
)
_PART: Final = pa.struct([("part", _TEXT), ("category", _TEXT), ("count", pa.int64())])

PHOTO: Final = "photo"
PHOTO_FILE: Final = "photo_file_name"
"""`datasets` makes an image column `photo` of a column of this name."""


def _field(name: str, kind: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


PHOTO_FIELDS: Final = (
    _field("mission", _TEXT, "name of the mission"),
    _field("dataset", _TEXT, "vocabulary of the mission: bbu or rru"),
    _field("group_number", _NUMBER, "which group of this export, from 0; ids may occur twice"),
    _field("group_id", _TEXT, "id of the group (ticket)"),
    _field("label", _TEXT, "the reviewers' label of the whole group: pass or fail"),
    _field("image", _TEXT, "file name of the photo"),
    _field("image_index", _NUMBER, "place of the photo in its group, from 1"),
    _field("image_count", _NUMBER, "photos of the group; null for a rejected photo", nullable=True),
    _field("summary", _TEXT, "the summary as delivered; null for a rejected photo", nullable=True),
    _field("kind", _TEXT, "statistics, irrelevant or text; null for a rejected photo", nullable=True),
    _field("categories", pa.list_(_TEXT), "categories that the summary names, in the vocabulary's order"),
    _field("attributes", pa.list_(_VALUE), "how often the summary says which value of which attribute"),
    _field("parts", pa.list_(_PART), "what the summary counts per numbered part (分组统计)"),
    _field("remarks", pa.list_(_TEXT), "remarks of the summary (备注)"),
    _field(
        "fail_reasons",
        pa.list_(_TEXT),
        "the reviewers' reasons; null for pass groups and without a workbook",
        nullable=True,
    ),
    _field("rejected_stage", _TEXT, "where a rejected photo was lost: read, summarise, clean", nullable=True),
    _field("rejected_reason", _TEXT, "why it was lost, as a short code", nullable=True),
    _field("model", _TEXT, "checkpoint and beginning of the run's fingerprint"),
    _field("path", _TEXT, "the photo below the input root; null where it is gone", nullable=True),
)

GROUP_SCHEMA: Final = pa.schema(
    [
        _field("mission", _TEXT, "name of the mission"),
        _field("dataset", _TEXT, "vocabulary of the mission: bbu or rru"),
        _field("group_number", _NUMBER, "as in the table of photos"),
        _field("group_id", _TEXT, "id of the group (ticket)"),
        _field("label", _TEXT, "the reviewers' label: pass or fail"),
        _field("images", pa.list_(_TEXT), "file names of the photos, in order"),
        _field("summaries", pa.list_(_TEXT), "their summaries, in the same order"),
        _field(
            "fail_reasons",
            pa.list_(_TEXT),
            "the reviewers' reasons; null for pass groups and without a workbook",
            nullable=True,
        ),
        _field("model", _TEXT, "checkpoint and beginning of the run's fingerprint"),
    ]
)

_PHOTO_BYTES: Final = pa.struct([("bytes", pa.binary()), ("path", _TEXT)])


def photo_schema(images: Images) -> pa.Schema:
    """The columns of photos, with their bytes (which `datasets` shows as pictures) or their copies' names."""
    fields = list(PHOTO_FIELDS)
    metadata: Mapping[str, str] | None = None
    if images == "embed":
        fields.append(_field(PHOTO, _PHOTO_BYTES, "the photo file; null where it is gone", nullable=True))
        # Features that are not told here follow from the columns, with every release of `datasets`.
        metadata = {"huggingface": json.dumps({"info": {"features": {PHOTO: {"_type": "Image"}}}})}
    if images == "copy":
        fields.append(_field(PHOTO_FILE, _TEXT, "the photo beside this file; null if gone", nullable=True))
    return pa.schema(fields, metadata=metadata)


def photo_row(photo: DeliveredPhoto) -> dict[str, Any]:
    """A row of PHOTO_FIELDS."""
    said = said_by(photo.summary) if photo.summary is not None else None
    return {
        "mission": photo.mission,
        "dataset": photo.dataset,
        "group_number": photo.group_number,
        "group_id": photo.group_id,
        "label": photo.label,
        "image": photo.image,
        "image_index": photo.image_index,
        "image_count": photo.image_count,
        "summary": photo.summary,
        "kind": said.kind if said else None,
        "categories": list(said.categories) if said else [],
        "attributes": [_as_row(value) for value in said.values] if said else [],
        "parts": [_as_row(part) for part in said.parts] if said else [],
        "remarks": list(said.remarks) if said else [],
        "fail_reasons": _listed(photo.fail_reasons),
        "rejected_stage": photo.rejected_stage,
        "rejected_reason": photo.rejected_reason,
        "model": photo.model,
        "path": photo.path,
    }


def group_row(photos: list[DeliveredPhoto]) -> dict[str, Any]:
    """A row of GROUP_SCHEMA from all photos of a written group."""
    first = photos[0]
    return {
        "mission": first.mission,
        "dataset": first.dataset,
        "group_number": first.group_number,
        "group_id": first.group_id,
        "label": first.label,
        "images": [photo.image for photo in photos],
        "summaries": [photo.summary for photo in photos],
        "fail_reasons": _listed(first.fail_reasons),
        "model": first.model,
    }


def describe(schema: pa.Schema) -> Iterator[tuple[str, str, str]]:
    """Name, type and meaning of each column."""
    for column in schema:
        yield column.name, str(column.type), (column.metadata or {}).get(b"description", b"").decode()


def _as_row(value: ValueCount | PartCount) -> dict[str, Any]:
    return asdict(value)


def _listed(texts: tuple[str, ...] | None) -> list[str] | None:
    return None if texts is None else list(texts)

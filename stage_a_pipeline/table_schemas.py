"""Columns of the tables that assets hand over; what each holds is shown in Dagster's interface."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())


def _field(name: str, kind: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


_PLACE = (
    _field("group_index", pa.int64(), "place of the group among the sampled ones, from 0"),
    _field("image_index", pa.int32(), "place of the photo in its group, from 1"),
)
_TICKET = (
    _field("mission", _TEXT, "任务名称"),
    _field("label", _TEXT, "pass or fail (审核结果)"),
    _field("group_id", _TEXT, "工单编号"),
)

GROUPS: Final = pa.schema(
    [
        *_TICKET,
        _field("folder", _TEXT, "folder of the photos"),
        _field("images", _TEXTS, "file names in natural order"),
    ]
)

SHARD: Final = pa.schema(_PLACE)

OUTCOMES: Final = pa.schema(
    [
        *_PLACE,
        *_TICKET,
        _field("image", _TEXT, "file name"),
        _field("status", _TEXT, "summarised or rejected"),
        _field("text", _TEXT, "clean summary", nullable=True),
        _field("flags", _TEXTS, "what cleaning noticed"),
        _field("raw_text", _TEXT, "the engine's answer as it came", nullable=True),
        _field("finish_reason", _TEXT, "stop, length or repetition", nullable=True),
        _field("prompt_tokens", pa.int32(), "tokens of the prompt, photo included", nullable=True),
        _field("generated_tokens", pa.int32(), "tokens of the answer", nullable=True),
        _field("attempts", pa.int32(), "how often the engine was asked"),
        _field("reused", pa.bool_(), "answered by the journal or by an identical photo"),
        _field("content_sha256", _TEXT, "SHA-256 of the file", nullable=True),
        _field("stage", _TEXT, "where a rejected photo was lost", nullable=True),
        _field("reason", _TEXT, "code of the rejection", nullable=True),
        _field("detail", _TEXT, "the rejection in a sentence", nullable=True),
    ]
)

RECORDS: Final = pa.schema(
    [
        *_TICKET,
        _field("images", _TEXTS, "file names in natural order"),
        _field("summaries", _TEXTS, "summary of each image"),
        _field("fail_reasons", _TEXTS, "reviewers' reasons of a fail", nullable=True),
    ]
)

FAIL_REASONS: Final = pa.schema(
    [
        _field("group_id", _TEXT, "工单编号"),
        _field("mission", _TEXT, "任务名称"),
        _field("reasons", _TEXTS, "reasons, sorted"),
    ]
)

"""What Stage-B needs of one line of Stage-A's JSONL, and why a line gives no ticket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.jsonl import BYTE_ORDER_MARK, load_json_line
from stage_a_pipeline.records import LABELS, Label, summary_line, text_field

SkipReason = Literal[
    "blank line",
    "broken JSON",
    "key given twice",
    "missing key",
    "bad value",
    "unknown label",
    "unknown mission",
    "other mission",
    "no images",
    "odd image key",
    "clash of image keys",
    "gap in image keys",
    "bad summary",
    "duplicate ticket",
]
"""Why a line gives no ticket; the first that applies is told."""

_REQUIRED: Final = ("mission", "group_id", "label", "per_image")
_IMAGE_KEY: Final = re.compile(r"(?:image|图片)_([1-9][0-9]{0,5})")
_LONGEST_DETAIL: Final = 200


class UnfitLineError(ValueError):
    """A line that gives no ticket."""

    def __init__(self, reason: SkipReason, detail: str) -> None:
        # What a line holds may be long, and may hold half of a surrogate pair, which no log can take.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        if len(detail) > _LONGEST_DETAIL:
            detail = detail[:_LONGEST_DETAIL] + "…"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """The fields of one line; the mission as it is written there."""

    mission: str
    group_id: str
    label: Label
    summaries: tuple[str, ...]


def parse_ticket_line(line: bytes, *, first: bool) -> ParsedLine:
    """The fields of a line; other keys are not looked at. UnfitLineError says why there are none.

    CR LF, and a byte-order mark on a file's `first` line, say nothing about the ticket and are accepted.
    """
    mapping = _load_mapping(line.removeprefix(BYTE_ORDER_MARK) if first else line)
    for key in _REQUIRED:
        if key not in mapping:
            raise UnfitLineError("missing key", f"{key} is missing")
    try:
        mission, group_id = (text_field(mapping[key], key) for key in ("mission", "group_id"))
    except RecordError as error:
        raise UnfitLineError("bad value", str(error)) from None
    label = mapping["label"]
    if label not in LABELS:
        raise UnfitLineError("unknown label", f"must be one of {', '.join(LABELS)}, not {label!r}")
    return ParsedLine(mission, group_id, cast("Label", label), _parse_summaries(mapping["per_image"]))


def _load_mapping(line: bytes) -> Mapping[str, object]:
    if not line.strip():
        raise UnfitLineError("blank line", "holds nothing")
    try:
        value = load_json_line(line)
    except RecordError as error:
        reason: SkipReason = "broken JSON" if error.field == "record" else "key given twice"
        raise UnfitLineError(reason, str(error)) from None
    if not isinstance(value, Mapping):
        raise UnfitLineError("bad value", "the line must be a JSON object")
    return value


def _parse_summaries(per_image: object) -> tuple[str, ...]:
    """The summaries in the order of their numbers, whatever the order and language of their keys."""
    if not isinstance(per_image, Mapping):
        raise UnfitLineError("bad value", "per_image must be an object of image_1, image_2, ...")
    if not per_image:
        raise UnfitLineError("no images", "per_image is empty")
    keys = _keys_by_number(per_image)
    missing = next((number for number in range(1, len(keys) + 1) if number not in keys), None)
    if missing is not None:
        raise UnfitLineError("gap in image keys", f"image_{missing} is missing; the last is {max(keys)}")
    try:
        return tuple(summary_line(per_image[keys[number]], keys[number]) for number in sorted(keys))
    except RecordError as error:
        raise UnfitLineError("bad summary", str(error)) from None


def _keys_by_number(per_image: Mapping[str, object]) -> dict[int, str]:
    keys: dict[int, str] = {}
    for key in per_image:
        match = _IMAGE_KEY.fullmatch(key)
        if match is None:
            raise UnfitLineError("odd image key", f"keys must be image_1, image_2, ..., not {key!r}")
        other = keys.setdefault(int(match[1]), key)
        if other != key:
            raise UnfitLineError("clash of image keys", f"{other} and {key} are one photo's")
    return keys

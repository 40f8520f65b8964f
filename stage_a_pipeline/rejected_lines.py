"""The rejected lines of a delivered mission, as whoever reads them needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, cast, get_args

from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.jsonl import load_json_line, numbered_lines
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import LABELS, Label, RejectionStage

_WHAT: Final = "rejected lines"
_REMEDY: Final = "run the mission"


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """One rejected photo as delivered. `image_index` is from 1, `raw_text` the answer, if there was one."""

    mission: str
    group_id: str
    label: Label
    image: str
    image_index: int
    stage: RejectionStage
    reason: str
    detail: str
    raw_text: str | None


_KEYS: Final = tuple(field.name for field in fields(RejectedLine))


def read_rejected_lines(path: Place) -> Iterator[RejectedLine]:
    """The lines of a `<mission>_stage_a.rejected.jsonl`, one at a time.

    RecordError names file, line and key of the first one that breaks the contract; InputError when
    the file cannot be read.
    """
    for number, line in numbered_lines(path, what=_WHAT, remedy=_REMEDY):
        try:
            yield _parse(load_json_line(line))
        except RecordError as error:
            raise error.at_line(number, source=str(path)) from None


def _parse(value: object) -> RejectedLine:
    if not isinstance(value, Mapping):
        raise RecordError("line", "must be a JSON object")
    for key in _KEYS:
        if key not in value:
            raise RecordError(key, "is missing")
        _require(key, value[key])
    return RejectedLine(**{key: cast(Any, value[key]) for key in _KEYS})


def _require(key: str, value: object) -> None:
    if key == "image_index":
        if type(value) is not int or value < 1:
            raise RecordError(key, "must be a number from 1")
    elif not (isinstance(value, str) or (key == "raw_text" and value is None)):
        raise RecordError(key, "must be text")
    if key == "label" and value not in LABELS:
        raise RecordError(key, f"must be one of {', '.join(LABELS)}")
    if key == "stage" and value not in get_args(RejectionStage):
        raise RecordError(key, f"must be one of {', '.join(get_args(RejectionStage))}")

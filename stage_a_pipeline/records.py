"""The records that travel through the pipeline: frozen, typed, built through one validating parse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.places import Place

Label = Literal["pass", "fail"]
LABELS: Final[tuple[Label, ...]] = get_args(Label)

RejectionStage = Literal["read", "summarise", "clean"]
"""Where a photo was lost: reading its file, asking the engine, or checking the answer."""


@dataclass(frozen=True, slots=True)
class Image:
    """One photo file: its name, and the folder that it shares with the photos of its group."""

    folder: Place
    name: str

    @property
    def path(self) -> Place:
        """Where the file can be opened; made when asked for, since a million paths would fill a gigabyte."""
        return self.folder / self.name


@dataclass(frozen=True, slots=True)
class Group:
    """One ticket: the photos of one inspection, in natural order, with the reviewers' label."""

    mission: str
    label: Label
    group_id: str
    folder: Place
    images: tuple[Image, ...]

    @property
    def ticket_key(self) -> str:
        """`group_id::label`, the key under which Stage-B knows the group."""
        return f"{self.group_id}::{self.label}"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One photo's place in the run: `group_index` among the sampled groups from 0, `image_index` from 1."""

    group_index: int
    image_index: int
    group: Group

    @property
    def image(self) -> Image:
        return self.group.images[self.image_index - 1]


@dataclass(frozen=True, slots=True)
class Summary:
    """One photo's answer. Token counts are of the prompt and of the generated answer.

    `text` and `flags` are what cleaning made of `raw_text`; `text` is empty before.
    """

    ref: ImageRef
    content_sha256: str
    raw_text: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    attempts: int = 1
    reused: bool = False
    text: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """One photo that has no answer, and why. `reason` is a short code, `detail` a sentence."""

    ref: ImageRef
    stage: RejectionStage
    reason: str
    detail: str
    raw_text: str | None = None
    content_sha256: str | None = None
    attempts: int = 1


Outcome = Summary | Rejection


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One line of the canonical JSONL. `summaries[i]` belongs to `images[i]`, key `image_{i+1}`.

    `fail_reasons` is None where the record has no ground-truth keys at all (pass records, and
    missions without a workbook) and an empty tuple where the workbook knows no reason.
    """

    group_id: str
    mission: str
    label: Label
    images: tuple[str, ...]
    summaries: tuple[str, ...]
    fail_reasons: tuple[str, ...] | None = None

    @property
    def ticket_key(self) -> str:
        """`group_id::label`, the key under which Stage-B knows the group."""
        return f"{self.group_id}::{self.label}"

    @property
    def per_image(self) -> dict[str, str]:
        """The summaries under their keys `image_1` to `image_N`."""
        return {f"image_{i}": text for i, text in enumerate(self.summaries, start=1)}

    def to_mapping(self) -> dict[str, object]:
        """The record as it stands in the file, keys in the canonical order."""
        mapping: dict[str, object] = {
            "group_id": self.group_id,
            "mission": self.mission,
            "label": self.label,
            "images": list(self.images),
            "per_image": self.per_image,
        }
        if self.fail_reasons is not None:
            mapping["gt_fail_reason_texts"] = list(self.fail_reasons)
            mapping["gt_fail_reason_text"] = " | ".join(self.fail_reasons) or None
        return mapping


_REQUIRED = ("group_id", "mission", "label", "images", "per_image")
_OPTIONAL = ("gt_fail_reason_texts", "gt_fail_reason_text")


def parse_group_record(mapping: object) -> GroupRecord:
    """One canonical record from parsed JSON; RecordError names the field that breaks the contract."""
    if not isinstance(mapping, Mapping):
        raise RecordError("record", f"must be a JSON object, not {_kind(mapping)}")
    for key in _REQUIRED:
        if key not in mapping:
            raise RecordError(key, "is missing")
    for key in mapping:
        if key not in _REQUIRED and key not in _OPTIONAL:
            raise RecordError(str(key), f"is not a known key; known: {', '.join(_REQUIRED + _OPTIONAL)}")
    label = mapping["label"]
    if label not in LABELS:
        raise RecordError("label", f"must be one of {', '.join(LABELS)}, not {label!r}")
    images = _text_list(mapping["images"], "images")
    if not images:
        raise RecordError("images", "must name at least one photo")
    summaries = _parse_per_image(mapping["per_image"], len(images))
    return GroupRecord(
        group_id=text_field(mapping["group_id"], "group_id"),
        mission=text_field(mapping["mission"], "mission"),
        label=cast("Label", label),
        images=images,
        summaries=summaries,
        fail_reasons=_parse_fail_reasons(mapping, label),
    )


def _parse_per_image(value: object, count: int) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        raise RecordError("per_image", f"must be an object, not {_kind(value)}")
    expected = [f"image_{i}" for i in range(1, count + 1)]
    missing = [key for key in expected if key not in value]
    if missing:
        raise RecordError(f"per_image.{missing[0]}", f"is missing; images has {count} entries")
    extra = [key for key in value if key not in set(expected)]
    if extra:
        raise RecordError(f"per_image.{extra[0]}", f"is not expected; images has {count} entries")
    if list(value) != expected:
        raise RecordError("per_image", f"keys must stand in order image_1..image_{count}")
    return tuple(summary_line(value[key], f"per_image.{key}") for key in expected)


def _parse_fail_reasons(mapping: Mapping[str, object], label: object) -> tuple[str, ...] | None:
    if not any(key in mapping for key in _OPTIONAL):
        return None
    if label != "fail":
        raise RecordError("gt_fail_reason_texts", "belongs to fail records only")
    for key in _OPTIONAL:
        if key not in mapping:
            raise RecordError(key, "is missing; the two gt_fail_reason keys go together")
    reasons = _text_list(mapping["gt_fail_reason_texts"], "gt_fail_reason_texts")
    if mapping["gt_fail_reason_text"] != (" | ".join(reasons) or None):
        raise RecordError("gt_fail_reason_text", "must be the texts joined by ' | ', or null without any")
    return reasons


def summary_line(value: object, field: str) -> str:
    """A summary as it stands in a record; RecordError for anything but one line of text."""
    text = text_field(value, field)
    if len(text.splitlines()) != 1:
        raise RecordError(field, "must be a single line")
    return text


def text_field(value: object, field: str) -> str:
    """Text of a record; RecordError where it is none, is blank, or cannot stand in UTF-8."""
    if not isinstance(value, str):
        raise RecordError(field, f"must be text, not {_kind(value)}")
    if not value.strip():
        raise RecordError(field, "must not be blank")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(field, f"{value!r} holds half of a surrogate pair, which is not UTF-8") from None
    return value


def _text_list(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise RecordError(field, f"must be a list of texts, not {_kind(value)}")
    items: Iterable[object] = value
    return tuple(text_field(item, f"{field}[{i}]") for i, item in enumerate(items))


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__

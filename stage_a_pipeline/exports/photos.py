"""What every export writes: one delivered photo after the other, and what its summary says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.photo_places import PhotoPlaces
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import GroupRecord, Label, RejectionStage
from stage_a_pipeline.rejected_lines import RejectedLine
from stage_a_pipeline.summary_content import attribute_order, category_order, read_content, value_order
from stage_a_pipeline.vocabulary import GROUP_STATISTICS, IRRELEVANT, REMARKS, Dataset

Kind = Literal["statistics", "irrelevant", "text"]
"""What a summary is: counts of objects, 无关图片, or words of an older checkpoint."""

KINDS: Final[tuple[Kind, ...]] = ("statistics", "irrelevant", "text")


@dataclass(frozen=True, slots=True)
class DeliveredPhoto:
    """One photo of a delivered mission.

    `group_number` counts the groups of the export from 0, so that two of the same id stay apart;
    `image_index` counts the photos of a group from 1. A rejected photo has no summary, and its group no
    `image_count`. `place` and `path` (below the input root) are None where the file is gone.
    """

    mission: str
    dataset: Dataset
    group_number: int
    group_id: str
    label: Label
    image: str
    image_index: int
    image_count: int | None
    summary: str | None
    fail_reasons: tuple[str, ...] | None
    rejected_stage: RejectionStage | None
    rejected_reason: str | None
    model: str
    place: Place | None
    path: str | None


@dataclass(frozen=True, slots=True)
class ValueCount:
    """How often a summary says that an attribute of a category has a value."""

    category: str
    attribute: str
    value: str
    count: int


@dataclass(frozen=True, slots=True)
class PartCount:
    """How many objects of a category stand in one of a summary's numbered groups."""

    part: str
    category: str
    count: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a summary says, in the order of the vocabulary."""

    kind: Kind
    categories: tuple[str, ...] = ()
    values: tuple[ValueCount, ...] = ()
    parts: tuple[PartCount, ...] = ()
    remarks: tuple[str, ...] = ()


def said_by(summary: str) -> Said:
    """What can be read of a summary, whether or not its words are in the vocabulary."""
    if summary == IRRELEVANT:
        return Said("irrelevant")
    content = read_content(summary)
    values: list[ValueCount] = []
    parts: list[PartCount] = []
    remarks: list[str] = []
    for name in attribute_order({attribute for attribute, _ in content.values}):
        for value in value_order(name, [value for attribute, value in content.values if attribute == name]):
            count = content.values[name, value]
            if name == REMARKS:
                remarks.append(value)
            elif name == GROUP_STATISTICS:
                part, _, category = value.partition("/")
                parts.append(PartCount(part, category, count))
            else:
                category, _, attribute = name.partition(".")
                values.append(ValueCount(category, attribute, value, count))
    kind: Kind = "statistics" if content.categories or values or parts or remarks else "text"
    return Said(kind, tuple(category_order(content.categories)), tuple(values), tuple(parts), tuple(remarks))


def delivered_photos(
    deliveries: Iterable[tuple[Delivery, PhotoPlaces]], *, with_rejected: bool
) -> Iterator[DeliveredPhoto]:
    """The photos of all written groups, in the files' order; with `with_rejected`, after those of each
    mission the photos that were rejected. Raises what reading the files raises."""
    number = 0
    for delivery, places in deliveries:
        for record in delivery.records():
            yield from _photos_of(record, delivery, places, number)
            number += 1
        lines = delivery.rejections() if with_rejected else iter(())
        for _, group in groupby(lines, key=lambda line: (line.label, line.group_id)):
            yield from (_rejected_photo(line, delivery, places, number) for line in group)
            number += 1


def _photos_of(
    record: GroupRecord, delivery: Delivery, places: PhotoPlaces, number: int
) -> Iterator[DeliveredPhoto]:
    found = places.places_of(record)
    for index, (image, summary, place) in enumerate(
        zip(record.images, record.summaries, found, strict=True), start=1
    ):
        yield DeliveredPhoto(
            mission=delivery.mission.name,
            dataset=delivery.mission.dataset,
            group_number=number,
            group_id=record.group_id,
            label=record.label,
            image=image,
            image_index=index,
            image_count=len(record.images),
            summary=summary,
            fail_reasons=record.fail_reasons,
            rejected_stage=None,
            rejected_reason=None,
            model=delivery.model,
            place=place,
            path=None if place is None else places.relative(place),
        )


def _rejected_photo(
    line: RejectedLine, delivery: Delivery, places: PhotoPlaces, number: int
) -> DeliveredPhoto:
    place = places.place_of(line.label, line.group_id, line.image)
    return DeliveredPhoto(
        mission=delivery.mission.name,
        dataset=delivery.mission.dataset,
        group_number=number,
        group_id=_utf8(line.group_id),
        label=line.label,
        image=_utf8(line.image),
        image_index=line.image_index,
        image_count=None,
        summary=None,
        fail_reasons=None,
        rejected_stage=line.stage,
        rejected_reason=line.reason,
        model=delivery.model,
        place=place,
        path=None if place is None else places.relative(place),
    )


def _utf8(name: str) -> str:
    """A name that is not UTF-8 on disk, with its odd bytes spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()

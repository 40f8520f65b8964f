"""FiftyOne: a folder in the format `FiftyOneDataset` of its own importer, JSON throughout.

The format is that of FiftyOne 1.x: `metadata.json` is the dataset's document, with its fields, and
`samples.json` the samples, both in MongoDB's extended JSON. It is the only one of FiftyOne's formats that
carries several labels and fields of one's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.exports.copied_photos import copy_photo
from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.export import Writer
from stage_a_pipeline.exports.photo_bytes import Images, PhotoWithBytes
from stage_a_pipeline.exports.photos import DeliveredPhoto, said_by
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import atomic_write

FORMAT_VERSION: Final = "1.0.0"
"""The release whose documents these are: every later one brings them up to date as it imports them."""

_FIELDS: Final = "fiftyone.core.fields."
_LABELS: Final = "fiftyone.core.labels."
_ID_LENGTH: Final = 24


def require_readable(root: Place | None, images: Images) -> None:
    """ConfigurationError where samples would name photos that FiftyOne cannot open."""
    if root is not None and not isinstance(root, Path) and images != "copy":
        raise ConfigurationError(
            f"the photos are in {root}, and FiftyOne opens files alone; give --images copy, or an input root "
            "on this machine"
        )


def fiftyone_writer() -> Writer:
    """Writes the dataset's document and a sample per photo, each of which must have its file."""

    def write(folder: Path, photos: Iterator[PhotoWithBytes], deliveries: Sequence[Delivery]) -> None:
        with atomic_write(folder / "metadata.json") as file:
            json.dump(dataset_document([delivery.mission.name for delivery in deliveries]), file)
            file.write("\n")
        _write_samples(folder / "samples.json", _samples(folder, photos))

    return write


def dataset_document(missions: Sequence[str]) -> dict[str, Any]:
    """The dataset with its fields. Name, ids and times are given by whoever imports it."""
    return {
        "version": FORMAT_VERSION,
        "media_type": "image",
        "group_media_types": {},
        "tags": [],
        "description": "Stage-A summaries of installation photos",
        "info": {"missions": list(missions)},
        "app_config": {},
        "classes": {},
        "default_classes": [],
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": list(_sample_fields()),
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def sample_document(photo: DeliveredPhoto, filepath: str) -> dict[str, Any]:
    """One photo as a sample. Its ids follow from its place in the export: same export, same bytes."""
    said = said_by(photo.summary) if photo.summary is not None else None
    key = json.dumps([photo.mission, photo.group_number, photo.label, photo.group_id, photo.image_index])
    document: dict[str, Any] = {
        "_id": {"$oid": _object_id(key)},
        "_rand": int(_object_id(f"{key} rand"), 16) / 16**_ID_LENGTH,
        "_media_type": "image",
        "filepath": filepath,
        "tags": [photo.label] if said else [photo.label, "rejected"],
        "mission": photo.mission,
        "dataset": photo.dataset,
        "group_number": photo.group_number,
        "group_id": photo.group_id,
        "image": photo.image,
        "image_index": photo.image_index,
        "path": photo.path,
        "summary": photo.summary,
        "fail_reasons": None if photo.fail_reasons is None else list(photo.fail_reasons),
        "rejected_stage": photo.rejected_stage,
        "rejected_reason": photo.rejected_reason,
        "model": photo.model,
        "label": _classification(f"{key} label", photo.label),
    }
    if said is None:
        return document
    categories = [_classification(f"{key} {name}", name) for name in said.categories]
    attributes = [
        _classification(f"{key} {value}", f"{value.category}.{value.attribute}: {value.value}")
        | {"count": value.count}
        for value in said.values
    ]
    return document | {
        "kind": _classification(f"{key} kind", said.kind),
        "categories": {"_cls": "Classifications", "classifications": categories},
        "attributes": {"_cls": "Classifications", "classifications": attributes},
        "remarks": list(said.remarks),
    }


def _samples(folder: Path, photos: Iterable[PhotoWithBytes]) -> Iterator[dict[str, Any]]:
    for number, (photo, data) in enumerate(photos):
        if data is not None:
            yield sample_document(photo, copy_photo(folder, number, photo, data))
        else:
            yield sample_document(photo, str(photo.place))


def _write_samples(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    with atomic_write(path) as file:
        file.write('{"samples": [')
        for number, sample in enumerate(samples):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(sample))
        file.write("\n]}\n")


def _classification(key: str, label: str) -> dict[str, Any]:
    return {"_id": {"$oid": _object_id(key)}, "_cls": "Classification", "tags": [], "label": label}


def _object_id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_ID_LENGTH]


def _sample_fields() -> Iterator[dict[str, Any]]:
    yield _field("id", "ObjectIdField", db_field="_id")
    yield _field("filepath", "StringField")
    yield _field("tags", "ListField", subfield="StringField")
    yield _field("metadata", "EmbeddedDocumentField", embedded="fiftyone.core.metadata.ImageMetadata")
    yield _field("_media_type", "StringField")
    yield _field("_rand", "FloatField")
    yield _field("_dataset_id", "ObjectIdField")
    for name in ("mission", "dataset", "group_id", "image", "path", "summary"):
        yield _field(name, "StringField")
    for name in ("group_number", "image_index"):
        yield _field(name, "IntField")
    for name in ("fail_reasons", "remarks"):
        yield _field(name, "ListField", subfield="StringField")
    for name in ("rejected_stage", "rejected_reason", "model"):
        yield _field(name, "StringField")
    for name in ("label", "kind"):
        yield _field(
            name, "EmbeddedDocumentField", embedded=f"{_LABELS}Classification", fields=_CLASSIFICATION
        )
    for name in ("categories", "attributes"):
        yield _field(
            name, "EmbeddedDocumentField", embedded=f"{_LABELS}Classifications", fields=_CLASSIFICATIONS
        )


def _field(
    name: str,
    kind: str,
    *,
    db_field: str | None = None,
    subfield: str | None = None,
    embedded: str | None = None,
    fields: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": f"{_FIELDS}{kind}",
        "embedded_doc_type": embedded,
        "subfield": f"{_FIELDS}{subfield}" if subfield else None,
        "fields": list(fields),
        "db_field": db_field or name,
        "description": None,
        "info": None,
    }


_CLASSIFICATION: Final = (
    _field("id", "ObjectIdField", db_field="_id"),
    _field("tags", "ListField", subfield="StringField"),
    _field("label", "StringField"),
    _field("confidence", "FloatField"),
    _field("logits", "VectorField"),
    _field("count", "IntField"),
)
_CLASSIFICATIONS: Final = (
    _field(
        "classifications",
        "ListField",
        subfield="EmbeddedDocumentField",
        embedded=f"{_LABELS}Classification",
        fields=_CLASSIFICATION,
    ),
    _field("logits", "VectorField"),
)

"""The groups of a report as scripts: a page that is opened from disk may load those, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from stage_a_pipeline.report.groups import ReportGroup, ReportPhoto
from stage_a_pipeline.report.statistics import cached_content
from stage_a_pipeline.report.thumbnails import Thumbnails
from stage_a_pipeline.storage import atomic_write
from stage_a_pipeline.summary_content import attribute_order, category_order, is_free, value_order
from stage_a_pipeline.vocabulary import CATEGORY

CHUNK: Final = 250
"""Groups in one script."""
_DANGEROUS: Final = re.compile("[<>&\u2028\u2029]")


class Facets:
    """Numbers for what groups can be filtered by: attributes with their values, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def numbers_of(self, facets: Iterable[tuple[str, str]]) -> list[int]:
        """The numbers of a group's facets, rising: attribute and value, or 类别 and a category."""
        return sorted({self._numbers.setdefault(facet, len(self._numbers)) for facet in facets})

    def to_json(self) -> list[dict[str, object]]:
        """Per attribute, in the vocabulary's order, its values with their numbers."""
        values: dict[str, dict[str, int]] = {}
        for (attribute, value), number in self._numbers.items():
            values.setdefault(attribute, {})[value] = number
        attributes = [CATEGORY, *attribute_order(values.keys() - {CATEGORY})]
        return [
            {
                "attribute": name,
                "values": [[value, values[name][value]] for value in _ordered(name, values[name])],
            }
            for name in attributes
            if name in values
        ]


class GroupScripts:
    """Writes groups into scripts of a folder, and counts what the pages must say about all of them."""

    def __init__(self, folder: Path, thumbnails: Thumbnails | None) -> None:
        self._folder = folder
        self._thumbnails = thumbnails
        self.facets = Facets()
        self.names: list[str] = []
        self.groups = 0
        self.photos = 0
        self.photos_without_thumbnail = 0
        """Photos that were read when they were summarised, and cannot be now."""

    def write(self, groups: Iterable[ReportGroup]) -> None:
        """Write `CHUNK` groups after the other. Raises OutputError, StoreError."""
        remaining = iter(groups)
        while chunk := list(islice(remaining, CHUNK)):
            name = f"groups-{len(self.names) + 1:05d}.js"
            write_script(self._folder / name, "add", [len(self.names), self._to_json(chunk)])
            self.names.append(name)
            self.groups += len(chunk)

    def _to_json(self, groups: Sequence[ReportGroup]) -> list[Mapping[str, object]]:
        photos = [photo for group in groups for photo in group.photos]
        made = self._thumbnails_of(photos)
        self.photos += len(photos)
        names = iter(made)
        return [
            _group_to_json(group, list(islice(names, len(group.photos))), self.facets) for group in groups
        ]

    def _thumbnails_of(self, photos: Sequence[ReportPhoto]) -> Sequence[str | None]:
        if self._thumbnails is None:
            return [None] * len(photos)
        names = self._thumbnails.make([photo.place for photo in photos])
        for photo, name in zip(photos, names, strict=True):
            unreadable = photo.rejection is not None and photo.rejection.stage == "read"
            self.photos_without_thumbnail += name is None and not unreadable
        return names


def write_script(path: Path, call: str, arguments: Sequence[object]) -> None:
    """A script that hands plain JSON to the function of that name in the page's `report` object.

    Raises OutputError.
    """
    with atomic_write(path, "wb") as file:
        told = ", ".join(map(script_json, arguments))
        file.write(f"report.{call}({told});\n".encode("utf-8", "backslashreplace"))


def script_json(value: object) -> str:
    """JSON that ends no script element and opens no comment, wherever it stands."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _DANGEROUS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)


def digest_of(folder: Path) -> str:
    """A name for a folder of scripts that is another one whenever their content is."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def without_folder(detail: str, name: str) -> str:
    """A sentence about the photo of that name without the folder in which it lay."""
    return re.sub(rf"\S*/{re.escape(name)}", lambda _: name, detail)


def _group_to_json(group: ReportGroup, names: Sequence[str | None], facets: Facets) -> Mapping[str, object]:
    told = {
        "id": group.group_id,
        "label": group.label,
        "folder": group.folder,
        "reasons": list(group.fail_reasons),
        "facets": facets.numbers_of(facet for photo in group.photos for facet in _facets_of(photo)),
        "photos": [
            _photo_to_json(photo, thumbnail) for photo, thumbnail in zip(group.photos, names, strict=True)
        ],
    }
    return {key: value for key, value in told.items() if value not in ("", [])}


def _photo_to_json(photo: ReportPhoto, thumbnail: str | None) -> Mapping[str, object]:
    told: dict[str, object | None] = {"name": photo.name, "thumbnail": thumbnail, "summary": photo.summary}
    if (line := photo.rejection) is not None:
        told |= {"stage": line.stage, "reason": line.reason, "raw": line.raw_text}
        told["detail"] = _without_folder(line.detail, photo)
    return {key: value for key, value in told.items() if value is not None}


def _without_folder(detail: str, photo: ReportPhoto) -> str:
    """The sentence without the folder of this machine, which is nobody's business elsewhere."""
    if photo.place is not None:
        return detail.replace(f"{photo.place.parent}/", "")
    return without_folder(detail, photo.name)


def _facets_of(photo: ReportPhoto) -> Iterator[tuple[str, str]]:
    if photo.summary is None:
        return
    content = cached_content(photo.summary)
    yield from ((CATEGORY, category) for category in sorted(content.categories))
    yield from ((attribute, value) for attribute, value in content.values if not is_free(attribute))


def _ordered(attribute: str, values: Iterable[str]) -> list[str]:
    return category_order(values) if attribute == CATEGORY else value_order(attribute, values)

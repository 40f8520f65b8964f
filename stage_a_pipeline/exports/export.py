"""One export from the settings to a finished folder, whatever its format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.exports.delivered import Delivery, find_deliveries
from stage_a_pipeline.exports.folder import EXPORT_NAME, appearing_export
from stage_a_pipeline.exports.photo_bytes import Images, PhotoWithBytes, with_bytes, without_bytes
from stage_a_pipeline.exports.photo_places import find_photos
from stage_a_pipeline.exports.photos import DeliveredPhoto, delivered_photos
from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import atomic_write

LAYOUT_VERSION: Final = 1
"""Of the files of all formats; goes up when a reader of theirs would have to change."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is exported, and where to.

    Photos whose file is gone have rows without it, unless `leave_out_gone` or, as an error, `require_photos`.
    """

    folder: Path
    format: str
    missions: Sequence[str] = ()
    images: Images = "none"
    with_rejected: bool = False
    leave_out_gone: bool = False
    require_photos: bool = False
    replace: bool = False


@dataclass(slots=True)
class Tally:
    """What went into an export: photos per mission, groups, and photos whose file is gone."""

    order: ExportOrder
    photos: Counter[str] = field(default_factory=Counter)
    groups: set[int] = field(default_factory=set)
    rejected: int = 0
    gone: int = 0
    first_gone: str = ""

    def count(self, photos: Iterable[PhotoWithBytes]) -> Iterator[PhotoWithBytes]:
        """The photos that the order wants, as they pass. InputError for one that it requires and is gone."""
        for photo, data in photos:
            gone = photo.place is None or (data is None and self.order.images != "none")
            if gone:
                self._count_gone(photo)
            if not (gone and self.order.leave_out_gone):
                self.photos[photo.mission] += 1
                self.rejected += photo.summary is None
                if photo.summary is not None:
                    self.groups.add(photo.group_number)
                yield photo, data

    def _count_gone(self, photo: DeliveredPhoto) -> None:
        name = f"{photo.mission}/{photo.group_id} ({photo.label})/{photo.image}"
        if self.order.require_photos:
            raise InputError(
                f"photo {harmless(name)} is gone or cannot be read; put it back below "
                "discovery.input_root (STAGE_A_INPUT_ROOT), or export without --require-photos"
            )
        self.gone += 1
        self.first_gone = self.first_gone or name


@dataclass(frozen=True, slots=True)
class Exported:
    """What came out: the folder, its entries, and what went into it."""

    folder: Path
    entries: tuple[str, ...]
    missions: tuple[str, ...]
    groups: int
    photos: int
    rejected: int
    gone: int
    first_gone: str
    left_out: bool

    def sentences(self) -> Iterator[str]:
        """For people: what came out, and what did not."""
        yield (
            f"{self.photos} photos of {self.groups} groups of {len(self.missions)} missions"
            + (f", {self.rejected} of them rejected" if self.rejected else "")
        )
        if self.gone:
            kept = "they are left out" if self.left_out else "their rows have none"
            yield (
                f"the files of {self.gone} photos are gone or cannot be read, the first of them "
                f"{harmless(self.first_gone)}: {kept}; --require-photos makes that an error"
            )


Writer = Callable[[Path, Iterator[PhotoWithBytes], Sequence[Delivery]], None]
"""Writes the files of one format into an empty folder."""


def export(order: ExportOrder, settings: Settings, write: Writer) -> Exported:
    """Write the missions' photos into the order's folder, all of it or nothing.

    Raises what finding and reading the delivered files raises, InputError for photos that are gone where
    the order requires them, StoreError for a store that fails, and OutputError.
    """
    deliveries = find_deliveries(settings, order.missions)
    found = [(delivery, find_photos(delivery, settings)) for delivery in deliveries]
    photos = delivered_photos(found, with_rejected=order.with_rejected)
    read = order.images != "none"
    tally = Tally(order)
    with appearing_export(order.folder, replace=order.replace) as folder:
        each = with_bytes(photos, photo_source(settings)) if read else without_bytes(photos)
        write(folder, tally.count(each), deliveries)
        entries = (*sorted(path.name for path in folder.iterdir()), EXPORT_NAME)
        _write_about(folder / EXPORT_NAME, order, deliveries, tally, entries)
    return Exported(
        folder=order.folder,
        entries=entries,
        missions=tuple(delivery.mission.name for delivery in deliveries),
        groups=len(tally.groups),
        photos=tally.photos.total(),
        rejected=tally.rejected,
        gone=tally.gone,
        first_gone=tally.first_gone,
        left_out=order.leave_out_gone,
    )


def _write_about(
    path: Path, order: ExportOrder, deliveries: Sequence[Delivery], tally: Tally, entries: Sequence[str]
) -> None:
    about = {
        "format": order.format,
        "layout": LAYOUT_VERSION,
        "images": order.images,
        "groups": len(tally.groups),
        "photos": tally.photos.total(),
        "rejected": tally.rejected,
        "gone": tally.gone,
        "missions": {
            delivery.mission.name: {
                "fingerprint": delivery.manifest.fingerprint,
                "prompt_hash": delivery.manifest.prompt_hash,
                "photos": tally.photos[delivery.mission.name],
            }
            for delivery in deliveries
        },
        "entries": list(entries),
    }
    with atomic_write(path) as file:
        json.dump(about, file, ensure_ascii=False, indent=2)
        file.write("\n")

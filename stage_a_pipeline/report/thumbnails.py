"""Thumbnails of a report: small, without what names people or places, and made once per content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import thumbnail_jpeg
from stage_a_pipeline.photo_source import PhotoSource
from stage_a_pipeline.places import Place
from stage_a_pipeline.settings_report import Region, ReportSettings
from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors

FOLDER: Final = "thumbnails"
_VERSION: Final = "1"
"""Raised when the same photo and options give other pixels."""


@dataclass(frozen=True, slots=True)
class ThumbnailRecipe:
    """What a thumbnail shows of its photo: `pixels` on its longer side, with `covered` painted over."""

    pixels: int
    covered: tuple[Region, ...]
    keep_exif: bool

    @classmethod
    def of(cls, settings: ReportSettings) -> ThumbnailRecipe:
        """The recipe of these settings."""
        return cls(settings.thumbnail_pixels, settings.covered, keep_exif=not settings.mask_exif)

    def name(self, content_sha256: str) -> str:
        """The file name of the thumbnail of that content; nothing of the photo's own name is in it."""
        told = repr((_VERSION, content_sha256, sorted(asdict(self).items())))
        digest = hashlib.sha256(told.encode()).hexdigest()[:32]
        return f"{digest[:2]}/{digest[2:]}.jpg"


class Thumbnails(AbstractContextManager["Thumbnails"]):
    """Thumbnails below `folder`, made on several threads; what is there already is not made again."""

    def __init__(
        self, folder: Path, recipe: ThumbnailRecipe, photos: PhotoSource, *, workers: int | str = "auto"
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._photos = photos
        threads = min(8, os.cpu_count() or 1) if workers == "auto" else int(workers)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thumbnail")
        self._used: set[str] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def make(self, places: Sequence[Place | None]) -> list[str | None]:
        """The thumbnails' names below the folder, None for a photo that is not there or cannot be read.

        Raises OutputError, and StoreError where the store of the photos fails.
        """
        names = list(self._pool.map(self._make, places))
        self._used.update(name for name in names if name is not None)
        return names

    def prune(self) -> int:
        """Remove the thumbnails that nobody asked for since this began; tells how many."""
        return sum(map(self._remove, sorted(self._unused())))

    def _unused(self) -> Iterable[str]:
        for path in self._folder.glob("*/*"):
            name = f"{path.parent.name}/{path.name}"
            if name not in self._used:
                yield name

    def _remove(self, name: str) -> bool:
        with output_errors(self._folder):
            (self._folder / name).unlink(missing_ok=True)
        return True

    def _make(self, place: Place | None) -> str | None:
        if place is None:
            return None
        try:
            name = self._recipe.name(self._photos.content_hash(place))
            if not (self._folder / name).exists():
                name = self._write(place)
        except PhotoError:
            # What is wrong with it stands among the rejections, or is seen in the next run.
            return None
        return name

    def _write(self, place: Place) -> str:
        photo = self._photos.read(place)
        recipe = self._recipe
        encoded = thumbnail_jpeg(
            photo, size=recipe.pixels, covered=recipe.covered, keep_exif=recipe.keep_exif
        )
        path = self._folder / (name := recipe.name(photo.sha256))
        ensure_folder(path.parent)
        with atomic_write(path, "wb") as file:
            file.write(encoded)
        return name

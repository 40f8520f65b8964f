"""Where a run's photos come from: this machine's disk, or an object store by way of a bounded cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from upath import UPath

from stage_a_pipeline.errors import PhotoError, StoreError
from stage_a_pipeline.images import PhotoFile, photo_of, read_photo, require_photo_size, unreadable_photo
from stage_a_pipeline.photo_headers import photo_size, size_in
from stage_a_pipeline.places import Place, to_path
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.known_hashes import KnownHashes
from stage_a_pipeline.storage.photo_cache import PhotoCache

_AT_ONCE: Final = 16
"""A store answers many as soon as one; so many photos of a window are fetched side by side."""

_MIB: Final = 1 << 20

PhotoSize = tuple[int, int] | None
"""Width and height as they are stored; None where the header does not tell."""


class PhotoSource(Protocol):
    """Reads photos; safe to use from several threads."""

    def read(self, place: Place) -> PhotoFile:
        """The photo's bytes. PhotoError for its own fault, StoreError when there are none to be had."""

    def content_hash(self, place: Place) -> str:
        """The SHA-256 of what `read` would read. Raises as `read`."""

    def sizes(self, places: Sequence[Place]) -> list[PhotoSize]:
        """The sizes of photos that will be read soon. What is wrong with one is told when it is read."""


class PhotosOnDisk:
    """Photos of this machine."""

    def read(self, place: Place) -> PhotoFile:
        """See PhotoSource."""
        return read_photo(to_path(place))

    def content_hash(self, place: Place) -> str:
        """See PhotoSource."""
        return self.read(place).sha256

    def sizes(self, places: Sequence[Place]) -> list[PhotoSize]:
        """See PhotoSource."""
        return [photo_size(to_path(place)) for place in places]


ON_DISK: Final = PhotosOnDisk()


class PhotosInStore:
    """Photos of an object store, each fetched whole, once for its size and its content.

    One that cannot be fetched is rejected as long as the `root` can still be listed. Otherwise the store is
    at fault: StoreError, and nobody tries again.
    """

    def __init__(self, root: UPath, cache: PhotoCache, hashes: KnownHashes) -> None:
        self._root = root
        self._cache = cache
        self._hashes = hashes
        self._outage: StoreError | None = None

    def read(self, place: Place) -> PhotoFile:
        """See PhotoSource."""
        assert isinstance(place, UPath)
        with self._blamed_rightly(place):
            return self._read(place, objects.look(place))

    def content_hash(self, place: Place) -> str:
        """See PhotoSource. A photo that was read before in the same version is not fetched again."""
        assert isinstance(place, UPath)
        with self._blamed_rightly(place):
            state = objects.look(place)
            return self._hashes.find(place, state) or self._read(place, state).sha256

    def sizes(self, places: Sequence[Place]) -> list[PhotoSize]:
        """See PhotoSource."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(places)), thread_name_prefix="fetch") as pool:
            return list(pool.map(self._size, places))

    def _read(self, place: UPath, state: objects.ObjectState) -> PhotoFile:
        require_photo_size(place, state.size)
        with self._cache.open(place, state) as file:
            photo = photo_of(place, file.read())
        self._hashes.add(place, state, photo.sha256)
        return photo

    def _size(self, place: Place) -> PhotoSize:
        assert isinstance(place, UPath)
        try:
            with self._blamed_rightly(place):
                state = objects.look(place)
                require_photo_size(place, state.size)
                with self._cache.open(place, state) as file:
                    return size_in(file.fileno())
        except PhotoError:
            return None

    @contextmanager
    def _blamed_rightly(self, place: UPath) -> Iterator[None]:
        if self._outage is not None:
            raise self._outage
        try:
            yield
        except OSError as error:
            self._require_store()
            raise unreadable_photo(place, error.strerror or str(error)) from error

    def _require_store(self) -> None:
        try:
            objects.children(self._root)
        except OSError as error:
            self._outage = StoreError(
                f"input root {self._root} cannot be read any more: {error.strerror}; finished photos are "
                "kept, run again once the store can be reached"
            )
            raise self._outage from error


def photo_source(settings: Settings, *, cache_folder: Path | None = None) -> PhotoSource:
    """The source of the photos below the settings' input root.

    Those of an object store are kept in `cache_folder`, or in the output folder.
    """
    root = settings.discovery.input_root
    if root is None or isinstance(root, Path):
        return ON_DISK
    work = settings.output.work_dir
    cache = PhotoCache(cache_folder or work / "photos", limit_bytes=settings.discovery.photo_cache_mib * _MIB)
    return PhotosInStore(root, cache, KnownHashes(work / "photos.sha256"))

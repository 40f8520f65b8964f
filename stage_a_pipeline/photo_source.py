"""Where a run's photos come from: this machine's disk, or an object store by way of a bounded cache."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol, TypeVar

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

T = TypeVar("T")

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

    One that cannot be fetched is rejected as long as the `root` can still be listed. Otherwise, and where
    the store asks for fewer requests for as long as anybody waits, the store is at fault: StoreError, and
    nobody tries again. What is wrong with this machine's disk is OutputError.
    """

    def __init__(self, root: UPath, cache: PhotoCache, hashes: KnownHashes) -> None:
        self._root = root
        self._cache = cache
        self._hashes = hashes
        self._outage: StoreError | None = None

    def read(self, place: Place) -> PhotoFile:
        """See PhotoSource."""
        return self._blaming_rightly(place, self._read)

    def content_hash(self, place: Place) -> str:
        """See PhotoSource. A photo that was read before in the same version is not fetched again."""
        return self._blaming_rightly(place, self._content_hash)

    def sizes(self, places: Sequence[Place]) -> list[PhotoSize]:
        """See PhotoSource."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(places)), thread_name_prefix="fetch") as pool:
            return list(pool.map(self._size_or_none, places))

    def _read(self, place: UPath) -> PhotoFile:
        return self._read_in(place, objects.look(place))

    def _content_hash(self, place: UPath) -> str:
        state = objects.look(place)
        return self._hashes.find(place, state) or self._read_in(place, state).sha256

    def _read_in(self, place: UPath, seen: objects.ObjectState) -> PhotoFile:
        require_photo_size(place, seen.size)
        with self._cache.open(place, seen) as (file, state):
            photo = photo_of(place, file.read())
        self._hashes.add(place, state, photo.sha256)
        return photo

    def _size_or_none(self, place: Place) -> PhotoSize:
        try:
            return self._blaming_rightly(place, self._size)
        except PhotoError:
            return None

    def _size(self, place: UPath) -> PhotoSize:
        state = objects.look(place)
        require_photo_size(place, state.size)
        with self._cache.open(place, state) as (file, _):
            return size_in(file.fileno())

    def _blaming_rightly(self, place: Place, ask: Callable[[UPath], T], *, again: bool = True) -> T:
        assert isinstance(place, UPath)
        if self._outage is not None:
            raise self._outage
        try:
            return ask(place)
        except OSError as error:
            self._require_store(error)
            if not again or not objects.may_pass(error):
                raise unreadable_photo(place, error.strerror or str(error)) from error
        # The store answers, and may have been away until just now.
        return self._blaming_rightly(place, ask, again=False)

    def _require_store(self, error: OSError) -> None:
        """StoreError where no photo is to blame for the error."""
        try:
            if error.errno == errno.EBUSY:
                raise error
            objects.children(self._root)
        except OSError as cause:
            self._outage = StoreError(
                f"input root {self._root} cannot be read any more: {cause.strerror}; finished photos are "
                "kept, run again once the store can be reached"
            )
            raise self._outage from cause


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

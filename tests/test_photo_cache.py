"""Photos of a store: fetched whole, kept within a bound, blamed for what is their own fault only."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.errors import OutputError, PhotoError, StoreError
from stage_a_pipeline.images import MAX_FILE_BYTES, read_photo
from stage_a_pipeline.photo_source import PhotosInStore, photo_source
from stage_a_pipeline.places import as_place
from stage_a_pipeline.settings import load_settings
from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.known_hashes import KnownHashes
from stage_a_pipeline.storage.photo_cache import PhotoCache
from tests.conftest import write_photo
from tests.test_storage import file_size_limit, without_privileges

KIB = 1024


@pytest.fixture
def cache(tmp_path):
    return PhotoCache(tmp_path / "photos", limit_bytes=64 * KIB)


@pytest.fixture
def photos(store, cache, tmp_path):
    return PhotosInStore(store.place("in"), cache, KnownHashes(tmp_path / "hashes"))


def kept(tmp_path: Path) -> int:
    """Bytes in the cache."""
    return sum(path.stat().st_size for path in (tmp_path / "photos").iterdir())


def fetched(store, name: str) -> int:
    return sum(asked.method == "GET" and name in asked.path for asked in store.proxy.asked)


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    Pillow.new("RGB", size, (seed, 2 * seed, 3 * seed)).save(content, "JPEG")
    return content.getvalue()


def test_a_photo_is_fetched_once_for_its_size_and_its_content(store, photos, tmp_path):
    local = write_photo(tmp_path / "p.jpg", seed=1, size=(96, 64))
    place = store.put("in/p.jpg", local.read_bytes())
    assert photos.sizes([place]) == [(96, 64)]
    read = photos.read(place)
    assert (read.data, read.sha256) == (local.read_bytes(), read_photo(local).sha256)
    assert fetched(store, "p.jpg") == 1


def test_a_photo_that_was_replaced_is_fetched_again(store, photos):
    place = store.put("in/p.jpg", b"first")
    assert photos.read(place).data == b"first"
    store.put("in/p.jpg", b"other")
    assert photos.read(place).data == b"other"


@pytest.mark.parametrize("other", [b"another", b"other"], ids=["longer", "as long"])
def test_a_photo_that_is_replaced_while_it_is_fetched_is_never_taken_for_what_it_was(store, photos, other):
    place = store.put("in/p.jpg", b"first")
    store.replace_while_fetched("in/p.jpg", [other])
    assert photos.read(place).data == other
    store.put("in/p.jpg", b"first")
    assert photos.content_hash(place) == hashlib.sha256(b"first").hexdigest()
    assert photos.read(place).data == b"first"


def test_a_hash_that_is_known_needs_no_photo_unless_that_was_replaced(store, photos, cache, tmp_path):
    place = store.put("in/p.jpg", b"first")
    sha256 = photos.read(place).sha256
    (tmp_path / "hashes").open("ab").write(b"torn")
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    later = PhotosInStore(store.place("in"), cache, KnownHashes(tmp_path / "hashes"))
    assert later.content_hash(place) == sha256
    assert fetched(store, "p.jpg") == 1
    store.put("in/p.jpg", b"other")
    assert later.content_hash(place) == hashlib.sha256(b"other").hexdigest()
    assert later.content_hash(store.put("in/q.jpg", b"first")) == sha256
    assert (fetched(store, "p.jpg"), fetched(store, "q.jpg")) == (2, 1)


def test_the_cache_stays_within_its_bound_and_drops_what_was_not_used_for_longest(store, photos, tmp_path):
    places = [store.put(f"in/{number}.jpg", bytes([number]) * (4 * KIB)) for number in range(40)]
    os.utime(_fetch_first(photos, places[0], tmp_path), ns=(0, 0))
    for place in places[1:]:
        assert len(photos.read(place).data) == 4 * KIB
        assert kept(tmp_path) <= 64 * KIB
    assert kept(tmp_path) >= 32 * KIB
    before = fetched(store, "/39.jpg"), fetched(store, "/0.jpg")
    photos.read(places[39])
    photos.read(places[0])
    assert (fetched(store, "/39.jpg"), fetched(store, "/0.jpg")) == (before[0], before[1] + 1)


def _fetch_first(photos: PhotosInStore, place, tmp_path: Path) -> Path:
    photos.read(place)
    (path,) = (tmp_path / "photos").iterdir()
    return path


def test_a_photo_larger_than_the_bound_is_read_all_the_same_and_not_kept(store, photos, tmp_path):
    place = store.put("in/large.jpg", bytes(100 * KIB))
    assert len(photos.read(place).data) == 100 * KIB
    assert kept(tmp_path) == 0


def test_threads_share_a_cache_that_has_room_for_few_of_their_photos(store, photos):
    places = [store.put(f"in/{number}.jpg", bytes([number]) * (8 * KIB)) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(photos.read, places * 4))
    assert [photo.data[0] for photo in read] == [*range(16)] * 4


def test_a_file_of_another_length_than_its_object_is_fetched_anew(store, photos, tmp_path):
    place = store.put("in/p.jpg", b"whole")
    path = _fetch_first(photos, place, tmp_path)
    path.write_bytes(b"who")
    assert photos.read(place).data == b"whole"


def test_a_process_killed_while_it_fetches_leaves_nothing_that_passes_for_a_photo(store, photos, tmp_path):
    place = store.put("in/p.jpg", b"whole" * 1000)
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from stage_a_pipeline.places import as_place\n"
        "from stage_a_pipeline.storage import objects\n"
        "from stage_a_pipeline.storage.photo_cache import PhotoCache\n"
        "def die(*a):\n"
        "    a[1].write_bytes(b'who'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "place = as_place(sys.argv[1]); state = objects.look(place); objects.download = die\n"
        "with PhotoCache(Path(sys.argv[2]), limit_bytes=1 << 20).open(place, state): pass\n"
    )
    command = [sys.executable, "-c", program, str(place), str(tmp_path / "photos")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert kept(tmp_path) == 3
    assert photos.read(place).data == b"whole" * 1000
    (torn,) = (tmp_path / "photos").glob(".stage-a-*.tmp")
    os.utime(torn, (0, 0))
    photos.read(store.put("in/q.jpg", bytes(60 * KIB)))
    assert not torn.exists()


def test_a_photo_that_is_denied_or_gone_is_its_own_fault(store, photos):
    place = store.put("in/p.jpg", b"x")
    with pytest.raises(
        PhotoError, match=r"photo .*/in/q.jpg cannot be read: there is no such object"
    ) as error:
        photos.read(place.parent / "q.jpg")
    assert error.value.reason == "unreadable"
    store.proxy.fail_always("denied", "p.jpg")
    with pytest.raises(PhotoError, match="the store denies it"):
        photos.read(place)
    assert photos.sizes([place]) == [None]


@pytest.mark.parametrize("fault", ["denied", "down"])
def test_a_store_that_fails_as_a_whole_is_no_photos_fault_and_is_not_asked_again(store, photos, fault):
    place = store.put("in/p.jpg", b"x")
    store.proxy.fail_always(fault, "")
    with pytest.raises(StoreError, match=r"cannot be read any more.*finished photos are kept"):
        photos.read(place)
    asked = len(store.proxy.asked)
    with pytest.raises(StoreError):
        photos.sizes([place])
    assert len(store.proxy.asked) == asked


@pytest.mark.parametrize("fault", ["busy", "too many"])
def test_throttling_that_outlasts_all_tries_is_the_stores_fault(store, photos, fault):
    place = store.put("in/p.jpg", b"x")
    store.proxy.fail_always(fault, "p.jpg")
    with pytest.raises(StoreError, match=rf"input root {store.url}/in cannot be read any more"):
        photos.read(place)


def test_an_outage_that_ends_when_the_store_is_looked_at_costs_no_photo(store, photos):
    place = store.put("in/p.jpg", b"x")
    listed = []

    def down_until_the_root_is_listed(asked):
        listed.extend(["root"] if "list-type" in asked.path else [])
        return "down" if "p.jpg" in asked.path and not listed else None

    store.proxy.fault = down_until_the_root_is_listed
    assert photos.read(place).data == b"x"
    assert listed


def test_a_photo_that_alone_breaks_off_each_time_is_its_own_fault(store, photos, monkeypatch):
    monkeypatch.setattr(objects, "_FIRST_WAIT", 0.01)
    place = store.put("in/p.jpg", b"whole" * 1000)
    store.proxy.fail_always("cut", "p.jpg", "GET")
    with pytest.raises(PhotoError, match="cannot be read"):
        photos.read(place)


def test_what_no_photo_can_be_is_refused_before_it_is_fetched(store, photos, monkeypatch):
    place = store.put("in/p.jpg", b"x")
    monkeypatch.setattr(objects, "look", lambda _: objects.ObjectState(MAX_FILE_BYTES + 1, "v"))
    with pytest.raises(PhotoError, match="is larger than 256 MiB"):
        photos.read(place)
    assert fetched(store, "p.jpg") == 0


def test_an_empty_photo_is_refused_as_on_disk(store, photos):
    with pytest.raises(PhotoError, match="has zero bytes"):
        photos.read(store.put("in/p.jpg", b""))


def test_a_cache_without_room_on_its_disk_is_named(store, photos):
    place = store.put("in/p.jpg", bytes(40 * KIB))
    with file_size_limit(KIB), pytest.raises(OutputError, match=r"photos cannot be written: File too large"):
        photos.read(place)


def test_a_machine_that_opens_no_more_files_is_named_and_no_photo_is_blamed(tmp_path):
    root = as_place(f"memory://{tmp_path.name}/in")
    objects.put_bytes(root / "p.jpg", b"x")
    cache = PhotoCache(tmp_path / "photos", limit_bytes=KIB)
    photos = PhotosInStore(root, cache, KnownHashes(tmp_path / "hashes"))
    for _ in range(2):  # It is not here yet, and then it is.
        with (
            no_more_files(),
            pytest.raises(OutputError, match=r"photos cannot be written: Too many open files.*ulimit -n"),
        ):
            photos.read(root / "p.jpg")
        assert photos.read(root / "p.jpg").data == b"x"


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_another_user_has_fetched_is_read(store, read_only_folder):
    place = store.put("in/p.jpg", b"x")
    cache = PhotoCache(read_only_folder, limit_bytes=KIB)
    photos = PhotosInStore(store.place("in"), cache, KnownHashes(read_only_folder / "hashes"))
    read_only_folder.chmod(0o755)
    photos.read(place)
    with without_privileges():
        assert photos.read(place).data == b"x"
    assert fetched(store, "p.jpg") == 1


def test_the_settings_decide_where_photos_come_from_and_how_many_are_kept(tmp_path, store):
    place = store.put("in/p.jpg", b"x")
    settings = load_settings(
        environ={"STAGE_A_INPUT_ROOT": f"{store.url}/in", "STAGE_A_OUTPUT_DIR": str(tmp_path / "out")}
    )
    photo_source(settings).read(place)
    assert len(list((tmp_path / "out" / "work" / "photos").iterdir())) == 1


def test_a_cache_folder_that_may_not_be_written_is_no_photos_fault(store, read_only_folder):
    place = store.put("in/p.jpg", b"x")
    cache = PhotoCache(read_only_folder, limit_bytes=KIB)
    photos = PhotosInStore(store.place("in"), cache, KnownHashes(read_only_folder / "hashes"))
    with without_privileges(), pytest.raises(OutputError, match="make the folder writable"):
        photos.read(place)

"""Calls on an object store that is busy, breaks off, denies, or is gone."""

import errno
import time
from pathlib import Path

import pytest

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.places import as_place
from stage_a_pipeline.storage import atomic_write, objects, output_errors

PHOTO = bytes(range(256)) * 400


def requests(store, method, part):
    return [asked for asked in store.proxy.asked if asked.method == method and part in asked.path]


@pytest.mark.parametrize("fault", ["busy", "cut", "down"])
def test_a_store_that_is_busy_or_breaks_off_is_asked_again(store, tmp_path, fault):
    place = store.put("a/photo.jpg", PHOTO)
    store.proxy.fail_first(2, fault, "GET", "photo.jpg")
    objects.download(place, tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").read_bytes() == PHOTO
    assert len(requests(store, "GET", "photo.jpg")) >= 3


def test_a_body_that_is_cut_each_time_is_never_taken_for_whole(store, tmp_path):
    place = store.put("a/photo.jpg", PHOTO)
    store.proxy.fail_always("cut", "photo.jpg", "GET")
    with pytest.raises(OSError):  # noqa: PT011 - a backend's words are its own
        objects.get_bytes(place)


def test_what_is_denied_or_missing_is_asked_for_once(store):
    place = store.put("a/photo.jpg", PHOTO)
    store.proxy.fail_always("denied", "photo.jpg")
    with pytest.raises(PermissionError, match="the store denies it"):
        objects.look(place)
    assert len(requests(store, "HEAD", "photo.jpg")) == 1
    store.proxy.reset()
    with pytest.raises(FileNotFoundError, match="there is no such object or bucket"):
        objects.look(place.parent / "other.jpg")
    assert not objects.exists(place.parent / "other.jpg")


def test_a_store_that_nobody_answers_for_is_given_up_within_a_minute(store):
    store.proxy.fail_always("down", "")
    began = time.monotonic()
    with pytest.raises(OSError) as error:  # noqa: PT011 - see above
        objects.children(store.place("a"))
    assert error.value.errno == errno.EIO
    assert time.monotonic() - began < 60


def test_a_failed_write_names_the_object_the_cause_and_a_remedy_and_no_secret(store):
    store.proxy.fail_always("denied", "out", "PUT")
    with pytest.raises(OutputError) as error, atomic_write(store.place("out/x.jsonl")) as file:
        file.write("{}\n")
    told = str(error.value)
    assert f"{store.url}/out/x.jsonl cannot be written: the store denies it" in told
    assert "credentials that may list, get, put and delete there" in told
    assert "secret-of-the-test" not in told


def test_missing_credentials_are_told_as_such(store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    place = as_place("s3://without-credentials/x")
    fresh = type(place.fs)(skip_instance_cache=True, use_listings_cache=False)
    with pytest.raises(PermissionError, match="no credentials were found"):
        objects.patiently(lambda: fresh.info("without-credentials/x"))


@pytest.mark.usefixtures("store")
def test_a_missing_bucket_is_told_as_such():
    place = as_place("s3://no-such-bucket-here/x")
    with pytest.raises(OutputError, match="create the bucket first"), output_errors(place):
        objects.put_bytes(place, b"x")


def test_an_object_of_another_size_than_the_store_says_is_not_taken(tmp_path, monkeypatch):
    """Where neither the connection nor the library notices."""
    monkeypatch.setattr(objects, "_FIRST_WAIT", 0.01)
    place = as_place(f"memory://{tmp_path.name}/photo.jpg")
    objects.put_bytes(place, PHOTO)
    monkeypatch.setattr(place.fs, "get_file", lambda _, target: Path(target).write_bytes(PHOTO[1:]))
    with pytest.raises(objects.CutOffError, match=rf"{len(PHOTO) - 1} of {len(PHOTO)} bytes came"):
        objects.download(place, tmp_path / "photo.jpg")


@pytest.mark.parametrize("other", [PHOTO[1:], PHOTO[::-1]], ids=["shorter", "as long"])
def test_an_object_that_is_replaced_while_it_is_fetched_is_fetched_again(store, tmp_path, other):
    place = store.put("a/photo.jpg", PHOTO)
    seen = objects.look(place)
    store.replace_while_fetched("a/photo.jpg", [other])
    state = objects.download(place, tmp_path / "photo.jpg", seen)
    assert (tmp_path / "photo.jpg").read_bytes() == other
    assert state == objects.look(place) != seen


def test_an_object_that_is_replaced_on_and_on_is_told_as_such(store, tmp_path):
    place = store.put("a/photo.jpg", PHOTO)
    store.replace_while_fetched("a/photo.jpg", (bytes([number]) for number in range(100)))
    with pytest.raises(OSError, match="somebody replaced it each time it was fetched"):
        objects.download(place, tmp_path / "photo.jpg")


def test_a_small_object_that_was_replaced_after_a_look_is_whole(store):
    place = store.put("a/note.json", b"old")
    store.replace_while_fetched("a/note.json", [b"newer"])
    assert objects.get_bytes(place) == b"newer"


@pytest.mark.parametrize("fault", ["busy", "too many"])
def test_a_store_that_asks_for_fewer_requests_is_told_as_busy(store, fault):
    place = store.put("a/photo.jpg", PHOTO)
    store.proxy.fail_always(fault, "photo.jpg")
    with pytest.raises(OSError) as error:  # noqa: PT011 - see above
        objects.look(place)
    assert error.value.errno == errno.EBUSY


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TypeError])
def test_what_is_no_fault_of_the_store_is_never_tried_again(kind):
    tried = []

    def call():
        tried.append(kind)
        raise kind

    with pytest.raises(kind):
        objects.patiently(call)
    assert len(tried) == 1

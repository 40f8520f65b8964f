"""Whole objects in place of others: a reader sees the old one or the new one, whoever dies when."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.storage import atomic_write, objects, open_to_read, prune_leftovers, stage_file
from tests.object_store import Store
from tests.test_storage import file_size_limit

OLD, NEW = b"old content\n" * 50, b"new content\n" * 60


def write(store: Store, content: bytes = NEW) -> None:
    with atomic_write(store.place("out/x.jsonl"), "wb") as file:
        file.write(content)


def written(store: Store) -> list[str]:
    """The keys that were put or copied to, without the bucket."""
    return [asked.path.split("/", 2)[2].split("?")[0] for asked in store.proxy.asked if asked.method == "PUT"]


def test_an_object_is_stored_beside_its_place_compared_and_then_copied_over_it(store):
    write(store)
    beside, final = written(store)
    assert beside.startswith("out/.stage-a-")
    assert final == "out/x.jsonl"
    assert store.keys() == ["out/x.jsonl"]
    assert objects.get_bytes(store.place("out/x.jsonl")) == NEW


def test_an_unchanged_object_is_not_written_again(store):
    write(store)
    store.proxy.reset()
    with stage_file(store.place("out/x.jsonl")) as staged:
        staged.handle.write(NEW)
        staged.close()
        assert staged.is_unchanged()
        staged.commit()
    assert written(store) == []


def test_what_is_dropped_leaves_nothing_behind(store):
    store.put("out/x.jsonl", OLD)
    with stage_file(store.place("out/x.jsonl")) as staged:
        staged.handle.write(NEW)
        staged.close()
    assert store.keys() == ["out/x.jsonl"]
    assert objects.get_bytes(store.place("out/x.jsonl")) == OLD


def test_what_is_stored_differently_from_what_was_sent_never_reaches_its_place(store, monkeypatch):
    store.put("out/x.jsonl", OLD)
    upload = objects.upload

    def lose_a_byte(source, place):
        source.write_bytes(source.read_bytes()[:-1])
        upload(source, place)
        source.write_bytes(NEW)

    monkeypatch.setattr(objects, "upload", lose_a_byte)
    with pytest.raises(
        OutputError, match=r"out/x.jsonl cannot be written: what was stored as .* is not what was sent"
    ):
        write(store)
    assert objects.get_bytes(store.place("out/x.jsonl")) == OLD


PROGRAM = """
import os, signal, sys
from stage_a_pipeline.places import as_place
from stage_a_pipeline.storage import atomic_write, objects
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
name, before = sys.argv[2], sys.argv[3] == "before"
call = getattr(objects, name)
setattr(objects, name, die if before else lambda *a: (call(*a), die()))
with atomic_write(as_place(sys.argv[1]), "wb") as file:
    file.write(b"new content\\n" * 60)
"""


@pytest.mark.parametrize(
    ("call", "moment", "then"),
    [("upload", "after", OLD), ("copy", "before", OLD), ("copy", "after", NEW)],
)
def test_killed_between_upload_and_copy_the_object_is_the_old_one_and_killed_after_it_the_new_one(
    store, call, moment, then
):
    place = store.put("out/x.jsonl", OLD)
    command = [sys.executable, "-c", PROGRAM, str(place), call, moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert objects.get_bytes(place) == then
    (left,) = [key for key in store.keys("") if key != "out/x.jsonl"]
    assert left.startswith("out/.stage-a-")
    write(store)
    assert objects.get_bytes(place) == NEW


def test_leftovers_of_killed_runs_are_pruned_when_they_are_old(store, monkeypatch):
    store.put("out/.stage-a-1-abc.tmp", b"x")
    store.put("out/x.jsonl", OLD)
    assert list(prune_leftovers(store.place("out"), older_than_days=7)) == []
    eight_days = timedelta(days=8)
    modified = objects.modified
    monkeypatch.setattr(
        objects,
        "modified",
        lambda place: (datetime.fromtimestamp(modified(place)).astimezone() - eight_days).timestamp(),
    )
    (pruned,) = prune_leftovers(store.place("out"), older_than_days=7)
    assert str(pruned).endswith("out/.stage-a-1-abc.tmp")
    assert store.keys() == ["out/x.jsonl"]
    assert list(prune_leftovers(store.place("nothing-there"), older_than_days=7)) == []


def test_an_upload_that_breaks_off_is_sent_again(store):
    store.proxy.fail_first(2, "down", "PUT", ".stage-a-")
    write(store)
    assert objects.get_bytes(store.place("out/x.jsonl")) == NEW


def test_an_object_that_is_read_is_whole_or_an_error(store):
    place = store.put("out/x.jsonl", NEW)
    store.proxy.fail_first(1, "cut", "GET", "x.jsonl")
    with open_to_read(place) as file:
        assert file.read() == NEW


def test_nothing_is_left_in_the_temporary_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write(store)
    store.proxy.fail_always("denied", "out/", "PUT")
    with pytest.raises(OutputError):
        write(store, OLD)
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_is_missing_or_full_is_named_and_no_bucket_is(store, tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(OutputError, match=rf"{folder} cannot be written: No such file.*set TMPDIR"):
        write(store)
    folder.mkdir()
    place = store.put("out/x.jsonl", NEW)
    with file_size_limit(8):
        with pytest.raises(OutputError, match=rf"{folder} cannot be written: File too large.*set TMPDIR"):
            write(store)
        with (
            pytest.raises(OutputError, match=rf"{folder} cannot be written: File too large.*set TMPDIR"),
            open_to_read(place),
        ):
            pytest.fail("there was no room to fetch it")
    assert list(folder.iterdir()) == []

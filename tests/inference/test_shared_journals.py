"""Journals of several machines beside an output in a store: nobody loses an answer, whoever stores when."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stage_a_pipeline.errors import OutputError, StoreError
from stage_a_pipeline.inference.journal import Answer, Journal
from stage_a_pipeline.inference.run_notes import Writer
from stage_a_pipeline.inference.shared_journals import fetch_journals, journal_folders, shared_journals
from stage_a_pipeline.settings import OutputSettings
from stage_a_pipeline.storage import objects, prune_leftovers
from tests.conftest import MISSION
from tests.object_store import Store
from tests.test_storage import file_size_limit

JOURNALS = f"out/work/journal/{MISSION}"
NOTES = "out/work/running"


class Machine:
    """A work folder, and what was told there."""

    def __init__(self, store: Store, work: Path) -> None:
        self.store = store
        self.work = work
        self.output = OutputSettings(output_dir=store.place("out"), local_work_dir=work)
        self.told: list[str] = []

    @contextmanager
    def run(self, run_id: str = "run", shard: str = "cpu") -> Iterator[None]:
        with shared_journals(self.output, Writer(shard, [MISSION], run_id, "a test"), self.told.append):
            yield

    def answer(self, *photos: str, shard: str = "cpu") -> None:
        """Write down answers, as a run does that may be killed then."""
        with Journal(self.work / "journal", shard, [MISSION]) as journal:
            for photo in photos:
                journal.append_answer(MISSION, photo, photo, "print", Answer(photo, "stop", 1, 1, 1))

    def ask(self, *photos: str, shard: str = "cpu", run_id: str = "run") -> None:
        """A whole run."""
        with self.run(run_id, shard):
            self.answer(*photos, shard=shard)

    def known(self) -> set[str]:
        """What this machine knows of its own and from the store."""
        fetch_journals(self.output)
        paths = (self.work / "journal" / MISSION).glob("*.jsonl")
        return {json.loads(line)["photo"] for path in paths for line in path.read_bytes().splitlines()}


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Machine:
    return Machine(store, tmp_path / "here")


@pytest.fixture
def there(store: Store, tmp_path: Path) -> Machine:
    return Machine(store, tmp_path / "there")


def test_a_journal_that_is_replaced_while_it_is_fetched_is_fetched_as_it_is_then(here, there, store):
    here.ask("a")
    (name,) = store.keys(JOURNALS)
    first = objects.get_bytes(store.place(f"{JOURNALS}/{name}"))
    here.ask("b", "c")
    later = objects.get_bytes(store.place(f"{JOURNALS}/{name}"))
    store.put(f"{JOURNALS}/{name}", first)
    store.replace_while_fetched(f"{JOURNALS}/{name}", [later])
    assert there.known() == {"a", "b", "c"}


def test_a_journal_that_a_run_has_begun_meanwhile_is_not_put_over(here, store):
    here.ask("a", "b")
    journal = here.work / "journal" / MISSION / "cpu.jsonl"
    journal.unlink()
    (name,) = store.keys(JOURNALS)

    def begin(asked):
        if asked.method == "GET" and name in asked.path and not journal.exists():
            here.answer("c")

    store.proxy.fault = begin
    fetch_journals(here.output)
    assert journal.read_bytes().count(b"\n") == 1
    assert here.known() == {"c"}


def test_what_dead_shards_have_left_here_is_stored_by_the_next_run(here, there, store):
    """Shards of other names: the next run may have other devices."""
    with here.run("killed", shard="cuda_7"):
        here.answer("a", shard="cuda_7")
        store.proxy.fail_always("down", "journal", "PUT")
    assert "is stored when the next run of that mission here ends" in here.told[-1]
    assert store.keys(JOURNALS) == []
    assert len(store.keys(NOTES)) == 1
    store.proxy.reset()
    time.sleep(0.05)
    here.ask("b", run_id="next")
    assert there.known() == {"a", "b"}
    assert store.keys(NOTES) == [], "nor is anybody warned of the dead any more"


def test_a_shard_that_others_write_is_left_to_them(here, there):
    with here.run(shard="cuda_0"):
        here.ask("a", shard="cuda_1")
        here.answer("b", shard="cuda_2")
    assert there.known() == {"a"}


def test_a_note_of_another_shard_of_the_run_stays(here, store):
    with here.run(shard="cuda_0"):
        here.ask("a", shard="cuda_1")
        assert [name.split(".")[1] for name in store.keys(NOTES)] == ["cuda_0"]
    assert store.keys(NOTES) == []
    assert here.told == []


def test_runs_on_two_machines_at_once_are_told_of_and_keep_what_both_have_asked(here, there, store):
    with here.run("first"):
        here.answer("a", "b")
        there.ask("b", "c", run_id="second")
    assert here.told == []
    (told,) = there.told
    assert f"the output of mission {MISSION} may be written by pid {os.getpid()} on" in told
    assert "run first" in told
    assert here.known() == there.known() == {"a", "b", "c"}
    assert (len(store.keys(JOURNALS)), store.keys(NOTES)) == (2, [])


def test_a_copied_work_folder_takes_a_name_of_its_own_and_stores_over_nobodys_journal(here, there, store):
    here.ask("a")
    shutil.copytree(here.work, there.work)
    here.ask("b", "c")
    there.ask("d")
    assert len(store.keys(JOURNALS)) == 2
    assert here.known() == there.known() == {"a", "b", "c", "d"}
    here.ask("e")
    there.ask("f")
    assert len(store.keys(JOURNALS)) == 2, "once is enough"
    assert here.known() == there.known() == {"a", "b", "c", "d", "e", "f"}


def test_a_work_folder_from_a_backup_stores_over_nothing_that_it_does_not_hold(here, there, tmp_path):
    here.ask("a")
    shutil.copytree(here.work, tmp_path / "backup")
    here.ask("b", "c")
    shutil.rmtree(here.work)
    (tmp_path / "backup").rename(here.work)
    here.ask("d")
    assert there.known() == {"a", "b", "c", "d"}


def test_a_journal_that_was_compacted_replaces_the_one_in_the_store(here, store, monkeypatch):
    monkeypatch.setattr("stage_a_pipeline.inference.journal._WORTH_COMPACTING", 2)
    here.ask(*"aaaa")
    before = store.keys(JOURNALS)
    here.ask("b")
    assert store.keys(JOURNALS) == before
    assert objects.get_bytes(store.place(f"{JOURNALS}/{before[0]}")).count(b"\n") == 2


def test_a_note_that_cannot_be_left_leaves_none_behind(here, store):
    other = "BBU"
    store.proxy.fail_always("denied", f"{NOTES}/{other}", "PUT")
    writer = Writer("cpu", [MISSION, other], "run", "a test")
    with pytest.raises(OutputError, match="the store denies it"), shared_journals(here.output, writer, print):
        pytest.fail("nothing may be asked")
    assert store.keys(NOTES) == []


def test_a_machine_without_room_for_journals_names_its_folder_and_hides_no_other_cause(here, there):
    here.ask("a")
    with file_size_limit(64), pytest.raises(OutputError, match=f"{there.work}.* cannot be written: File too"):
        fetch_journals(there.output)
    here.answer("b")
    with pytest.raises(RuntimeError, match="the cause"), file_size_limit(64), here.run():
        raise RuntimeError("the cause")
    assert "could not be stored" in here.told[-1]


def test_a_journal_that_is_damaged_here_leaves_the_whole_one_in_the_store(here, there):
    here.ask("a", "b")
    journal = here.work / "journal" / MISSION / "cpu.jsonl"
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with here.run():
        pass
    assert f"journal {journal}, line 1 is damaged" in here.told[-1]
    journal.unlink()
    assert here.known() == there.known() == {"a", "b"}


def test_a_journal_that_is_damaged_in_the_store_is_replaced_by_the_whole_one_here(here, there, store):
    here.ask("a")
    (name,) = store.keys(JOURNALS)
    store.put(f"{JOURNALS}/{name}", b"garbage\n")
    here.ask("b")
    assert store.keys(JOURNALS) == [name]
    assert there.known() == {"a", "b"}


def test_a_store_that_is_away_is_named(here, store):
    here.ask("a")
    store.proxy.fail_always("down", "journal")
    with pytest.raises(StoreError, match=r"journals in .* cannot be fetched.*run again once"):
        fetch_journals(here.output)


def test_leftovers_of_killed_processes_among_the_journals_are_pruned_here_and_there(here, store, monkeypatch):
    here.ask("a")
    store.put(f"{JOURNALS}/.stage-a-1-ab.tmp", b"half")
    local = here.work / "journal" / MISSION / ".stage-a-2-ab.tmp"
    local.write_bytes(b"half")
    os.utime(local, (0, 0))
    monkeypatch.setattr(objects, "modified", lambda place: 0.0)
    pruned = [
        str(left).rpartition("/")[2]
        for folder in journal_folders(here.output, [MISSION])
        for left in prune_leftovers(folder, older_than_days=7)
    ]
    assert pruned == [".stage-a-2-ab.tmp", ".stage-a-1-ab.tmp"]
    assert here.known() == {"a"}

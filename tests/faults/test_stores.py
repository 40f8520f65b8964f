"""Photos and results in an object store: the same bytes as on disk, whatever the store does meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from stage_a_pipeline.jsonl import OutputPaths, output_paths, read_manifest
from stage_a_pipeline.places import as_place
from stage_a_pipeline.storage import objects, read_bytes
from tests.conftest import LABEL_FOLDERS, MISSION
from tests.faults.conftest import (
    HERE,
    PHOTOS,
    Ended,
    Workplace,
    finish,
    kill_everything,
    mounted,
    remount,
    wait_until,
)
from tests.object_store import Store


class Remote:
    """A workplace whose photos and results are in a bucket; `at` is one of several machines."""

    def __init__(self, workplace: Workplace, store: Store) -> None:
        self.workplace = workplace
        self.store = store
        store.put_tree(workplace.root, "in")
        self.at("here")

    def at(self, machine: str, faults: str = "", **sections: object) -> Remote:
        """Settings for the next run on that machine, whose disk is its own."""
        work = self.workplace.folder / machine
        given = {
            "discovery": {"input_root": f"{self.store.url}/in"},
            "inference": HERE,
            "output": {"output_dir": f"{self.store.url}/out", "local_work_dir": str(work)},
        }
        self.workplace.configure(faults, **(given | sections))
        self.journal = work / "journal" / MISSION
        return self

    def run(self) -> Ended:
        return self.workplace.run_here()

    @property
    def paths(self) -> OutputPaths:
        return output_paths(self.store.place("out"), MISSION)

    def published(self) -> tuple[bytes, bytes]:
        return read_bytes(self.paths.jsonl), read_bytes(self.paths.rejected)


@pytest.fixture
def remote(workplace: Workplace, store: Store) -> Remote:
    return Remote(workplace, store)


def test_what_is_no_journal_among_the_journals_is_left_alone(remote: Remote) -> None:
    for key in ("README", f"{MISSION}/notes", f"{MISSION}/a.b.c.jsonl", f"{MISSION}/deep/a.b.jsonl"):
        remote.store.put(f"out/work/journal/{key}", b"nothing of ours")
    assert remote.run().code == 0
    assert remote.published()[0].count(b"\n") > 0


def first_photo(store: Store) -> str:
    return next(key for key in store.keys("in") if key.endswith(".jpg"))


def test_photos_and_results_in_s3_give_the_bytes_of_those_on_disk(remote, undisturbed):
    assert remote.run().code == 0
    assert remote.published() == undisturbed.published()
    manifest = read_manifest(remote.paths.manifest)
    assert manifest.files[remote.paths.jsonl.name].size == len(remote.published()[0])
    assert manifest.settings["output"]["output_dir"] == f"{remote.store.url}/out"
    assert sorted(key for key in remote.store.keys("out") if not key.startswith("work/")) == sorted(
        path.name for path in (remote.paths.jsonl, remote.paths.rejected, remote.paths.manifest)
    )


def test_photos_and_results_in_memory_and_behind_file_urls_give_the_same_bytes(workplace, undisturbed):
    root = as_place(f"memory://{workplace.folder.parent.name}/in")
    for path in workplace.root.rglob("*.jpg"):
        objects.put_bytes(root / path.relative_to(workplace.root).as_posix(), path.read_bytes())
    out = root.parent / "out"
    work = str(workplace.folder / "memory")
    workplace.configure(
        discovery={"input_root": str(root)},
        inference=HERE,
        output={"output_dir": str(out), "local_work_dir": work},
    )
    assert workplace.run_here().code == 0
    paths = output_paths(out, MISSION)
    assert (read_bytes(paths.jsonl), read_bytes(paths.rejected)) == undisturbed.published()
    workplace.configure(
        discovery={"input_root": workplace.root.as_uri()},
        inference=HERE,
        output={"output_dir": (workplace.folder / "files").as_uri()},
    )
    assert workplace.run_here().code == 0
    paths = output_paths(workplace.folder / "files", MISSION)
    assert (read_bytes(paths.jsonl), read_bytes(paths.rejected)) == undisturbed.published()


def test_a_second_run_without_its_journal_gets_it_back_whole_asks_nothing_and_stores_nothing_again(remote):
    assert remote.run().code == 0
    (remote.journal / "cpu.jsonl").unlink()
    remote.store.proxy.asked.clear()
    remote.store.proxy.fail_first(1, "cut", "GET", "work/journal/")
    assert remote.run().code == 0
    assert len(remote.workplace.asked()) == PHOTOS
    asked = remote.store.proxy.asked
    assert not [path for method, path in asked if method == "GET" and ".jpg" in path]
    assert not [path for method, path in asked if method == "PUT" and f"{MISSION}_stage_a" in path]
    assert len(remote.store.keys("out/work/journal")) == 1


def test_status_and_validate_tell_what_is_in_the_store_also_from_another_machine(remote, monkeypatch):
    assert remote.run().code == 0
    remote.at("there")
    monkeypatch.setenv("STAGE_A_SETTINGS", str(remote.workplace.settings_file))
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["status"])
    assert shown.exit_code == 0, shown.output
    assert f"delivered {remote.paths.jsonl}" in shown.output
    row = next(line for line in shown.output.splitlines() if MISSION in line and "│" in line)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["10", str(PHOTOS), str(PHOTOS), "10", "0"]
    shown = CliRunner().invoke(main, ["validate", str(remote.paths.jsonl)])
    assert (shown.exit_code, "10 lines, 0 errors" in shown.output) == (0, True)


def test_a_tree_in_the_store_can_be_evaluated(remote, tmp_path, monkeypatch):
    """The truth lies there too; a line without a photo costs no request of its own."""
    photos = remote.store.keys("in")
    lines = [{"path": path, "summary": "无关图片"} for path in [*photos, f"{MISSION}/审核通过/gone/1.jpg"]]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    remote.store.put("in/truth.jsonl", text.encode())
    monkeypatch.setenv("STAGE_A_SETTINGS", str(remote.workplace.settings_file))
    scores = tmp_path / "scores.json"
    asked_for = ["evaluate", "--root", f"{remote.store.url}/in", "--json", str(scores)]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(main, asked_for)
    assert shown.exit_code == 0, shown.output
    told = json.loads(scores.read_text("utf-8"))
    assert (told["photos"], told["truth"]) == (PHOTOS, f"{remote.store.url}/in/truth.jsonl")
    assert told["unmatched"]["truth_lines_without_photo"] == 1
    refused = CliRunner().invoke(main, [*asked_for[:-1], f"{remote.store.url}/scores.json"])
    assert refused.exit_code == 2
    assert "must be a path of this machine" in refused.output


def test_a_store_that_is_throttled_and_cuts_photos_off_costs_time_and_nothing_else(remote, undisturbed):
    count = iter(range(1000))

    def every_third(asked):
        number = next(count) if asked.method == "GET" else 1
        if number % 6 == 0:
            return "busy"
        return "cut" if number % 6 == 3 and ".jpg" in asked.path else None

    remote.store.proxy.fault = every_third
    assert remote.run().code == 0
    assert next(count) > PHOTOS
    assert remote.published() == undisturbed.published()


def test_a_photo_that_is_denied_broken_or_empty_costs_its_group_alone_as_on_disk(remote):
    photo = first_photo(remote.store)
    label = f"in/{MISSION}/{LABEL_FOLDERS['pass']}"
    remote.store.put(f"{label}/broken/IMG_1.jpg", b"\xff\xd8\xff nothing behind it")
    remote.store.put(f"{label}/empty/IMG_1.jpg", b"")
    remote.at("here", inference=HERE | {"max_failed_fraction": 0.5})
    remote.store.proxy.fail_always("denied", photo)
    assert remote.run().code == 0
    lines = {line["group_id"]: line for line in map(json.loads, remote.published()[1].splitlines())}
    denied = lines.pop(photo.split("/")[2])
    assert (denied["stage"], denied["reason"]) == ("read", "unreadable")
    assert f"{remote.store.url}/in/{photo} cannot be read: the store denies it" in denied["detail"]
    assert {group: line["reason"] for group, line in lines.items()} == {
        "broken": "truncated",
        "empty": "empty",
    }
    assert read_manifest(remote.paths.manifest).counts.written == 9


def outage_after(store: Store, photos: int) -> None:
    """From so many fetched photos on, nobody answers any more."""
    count = iter(range(10_000))

    def down(asked):
        if asked.method == "GET" and ".jpg" in asked.path:
            next(count)
        return "down" if count.__length_hint__() <= 10_000 - photos else None

    store.proxy.fault = down


def test_an_outage_stops_the_run_blames_no_photo_and_keeps_what_is_finished(remote, undisturbed):
    remote.at("here", inference=HERE | {"sort_window": 0, "decode_workers": 1})
    outage_after(remote.store, 12)
    ended = remote.run()
    assert ended.code == 1
    assert f"input root {remote.store.url}/in cannot be read any more" in ended.output
    assert "photo rejected" not in ended.output
    assert "could not be stored" in ended.output
    assert "Traceback" not in ended.output
    finished = len(remote.workplace.asked())
    assert 0 < finished < PHOTOS
    remote.store.proxy.reset()
    assert remote.run().code == 0
    assert remote.published() == undisturbed.published()
    assert len(remote.workplace.asked()) - PHOTOS <= 2 * 2, "only what was under way is asked again"


def test_a_disk_without_room_for_fetched_photos_is_named_and_blames_no_photo(remote, undisturbed):
    with mounted(remote.workplace.folder / "here" / "photos", "size=16k") as photos:
        ended = remote.run()
        assert ended.code == 1
        assert f"{photos} cannot be written: No space left on device" in ended.output
        assert "photo rejected" not in ended.output
        remount(photos, "size=8m")
        assert remote.run().code == 0
    assert remote.published() == undisturbed.published()


def test_a_store_that_denies_writing_is_named_before_a_photo_is_asked(remote):
    remote.store.proxy.fail_always("denied", "/out/", "PUT")
    ended = remote.run()
    assert ended.code == 1
    assert f"{remote.store.url}/out cannot be written: the store denies it" in ended.output
    assert "give credentials that may list, get, put and delete there" in ended.output
    assert remote.workplace.asked() == []


def test_a_missing_bucket_for_results_is_named_before_a_photo_is_asked(remote):
    remote.at("here", output={"output_dir": "s3://there-is-no-such-bucket/out"})
    ended = remote.run()
    assert ended.code == 1
    assert "s3://there-is-no-such-bucket/out cannot be written" in ended.output
    assert "create the bucket first" in ended.output
    assert remote.workplace.asked() == []


def test_an_outage_while_publishing_keeps_the_last_good_files_and_every_answer(remote, undisturbed):
    remote.store.put(f"out/{MISSION}_stage_a.jsonl", b"the last good file\n")
    remote.store.proxy.fail_always("down", "out/.stage-a-", "GET")
    ended = remote.run()
    assert ended.code == 1
    assert "cannot be written" in ended.output
    assert read_bytes(remote.paths.jsonl) == b"the last good file\n"
    assert not objects.exists(remote.paths.manifest)
    remote.store.proxy.reset()
    assert remote.run().code == 0
    assert remote.published() == undisturbed.published()
    assert len(remote.workplace.asked()) == PHOTOS


def test_another_machine_goes_on_where_the_first_one_stopped(remote, undisturbed):
    """The first, with worker processes, is interrupted; the second has nothing but the bucket."""
    remote.at("here", "seconds_per_photo = 0.1\n", inference={})
    process = remote.workplace.start()
    wait_for_journal(remote, 4)
    process.terminate()
    assert finish(process).code == 130
    finished = len(answered(remote.journal))
    assert 4 <= finished < PHOTOS
    assert [key.split(".")[0] for key in remote.store.keys("out/work/journal")] == [f"{MISSION}/cpu"]
    assert remote.store.keys("out/work/running") == []
    remote.workplace.asked_file.unlink()
    assert remote.at("there").run().code == 0
    assert remote.published() == undisturbed.published()
    assert len(remote.workplace.asked()) == PHOTOS - finished
    assert len(remote.store.keys("out/work/journal")) == 2, "nobody writes over another's journal"


def test_a_machine_that_dies_in_a_shard_loses_the_answers_of_that_shard_and_is_told_of(remote, undisturbed):
    """Its disk is lost with it, and its note stays behind; unless the disk turns up again."""
    remote.at("here", "seconds_per_photo = 0.1\n", inference={})
    process = remote.workplace.start()
    wait_for_journal(remote, 4)
    kill_everything(process)
    process.wait()
    assert remote.store.keys("out/work/journal") == []
    ended = remote.at("there").run()
    assert ended.code == 0
    assert f"the output of mission {MISSION} may be written by pid" in ended.output
    (note,) = remote.store.keys("out/work/running")
    assert f"If that run is dead, delete {remote.store.url}/out/work/running/{note}" in ended.output
    assert remote.published() == undisturbed.published()
    assert "may be written by" not in remote.at("here").run().output
    assert remote.store.keys("out/work/running") == []
    assert len(remote.store.keys("out/work/journal")) == 2, "the dead run's answers as well"
    assert remote.published() == undisturbed.published()


def test_journals_that_name_other_folders_are_refused(remote):
    remote.store.put("out/work/journal/a\\b/cpu.0123.jsonl", b"")
    ended = remote.run()
    assert ended.code == 1
    assert "cannot be a file name" in ended.output
    assert remote.workplace.asked() == []


def answered(journal: Path) -> list[str]:
    lines = [line for path in journal.glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    return [line.decode() for line in lines if line.endswith(b"\n") and b'"summarised"' in line]


def wait_for_journal(remote: Remote, count: int) -> None:
    wait_until(lambda: len(answered(remote.journal)) >= count, f"{count} answers")

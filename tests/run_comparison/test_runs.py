"""What a run is, and which missions of two runs are compared."""

import pytest

from stage_a_pipeline.errors import InputError, RecordError, StoreError
from stage_a_pipeline.jsonl import output_paths, read_manifest
from stage_a_pipeline.run_comparison.comparison import compare_runs
from stage_a_pipeline.run_comparison.runs import common_missions, is_described, open_run
from tests.conftest import BRACKETS, MISSION
from tests.run_comparison.runs import record, rejection, write_run

A = record("A", "甲")


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "before", [A])
    return write_run(tmp_path / "before", [record("B", "乙", mission=BRACKETS)], mission=BRACKETS)


def test_a_folder_is_a_run_of_all_missions_that_it_holds(folder):
    run = open_run(folder)
    assert list(run.missions) == [BRACKETS, MISSION]
    assert run.missions[MISSION] == output_paths(folder, MISSION)


def test_a_single_file_is_a_run_of_its_mission_whatever_it_is_called(folder):
    assert list(open_run(output_paths(folder, MISSION).jsonl).missions) == [MISSION]
    for place in output_paths(folder, MISSION).jsonl, output_paths(folder, MISSION).manifest:
        place.rename(folder / place.name.replace(f"{MISSION}_stage_a", "old"))
    (paths,) = open_run(folder / "old.jsonl").missions.values()
    assert is_described(paths.jsonl, read_manifest(paths.manifest))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "run .*nowhere cannot be read: No such file"),
        ("empty", "run .*empty has delivered nothing"),
    ],
)
def test_what_is_no_run_is_told_with_the_remedy(tmp_path, name, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.jsonl").write_text("")
    with pytest.raises(InputError, match=f"{told}.*give an output folder of the pipeline"):
        open_run(tmp_path / name)


def test_a_file_that_is_none_of_the_pipeline_is_told_with_its_line(tmp_path):
    (tmp_path / "old.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(RecordError, match=r"old\.jsonl, line 1: group_id: is missing"):
        open_run(tmp_path / "old.jsonl")


def test_runs_without_a_mission_in_common_are_told_with_what_they_have(folder, tmp_path):
    other = write_run(tmp_path / "other", [record("C", "丙", mission="RRU线缆")], mission="RRU线缆")
    with pytest.raises(
        InputError, match=f"no mission in common: .*before has {BRACKETS}, {MISSION}, .*RRU线缆"
    ):
        common_missions(open_run(folder), open_run(other))


def test_a_mission_that_one_run_lacks_cannot_be_asked_for(folder, tmp_path):
    after = write_run(tmp_path / "after", [A])
    runs = open_run(folder), open_run(after)
    assert common_missions(*runs) == common_missions(*runs, [MISSION]) == [MISSION]
    with pytest.raises(
        InputError, match=f"run .*after has not delivered mission {BRACKETS}; it has {MISSION}"
    ):
        common_missions(*runs, [BRACKETS])


@pytest.mark.parametrize("second", ["before", "link", f"before/{MISSION}_stage_a.jsonl"])
def test_one_run_given_twice_is_told_however_it_is_named(folder, tmp_path, second):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match=r"both runs are the same: .* kept in different folders"):
        common_missions(open_run(folder), open_run(tmp_path / second), [MISSION])


def test_runs_may_be_in_an_object_store(store):
    write_run(store.place("before"), [A])
    run = open_run(store.place("before"))
    assert list(run.missions) == [MISSION]
    assert list(open_run(run.missions[MISSION].jsonl).missions) == [MISSION]
    with pytest.raises(InputError, match="both runs are the same"):
        common_missions(run, run)
    with pytest.raises(InputError, match="nowhere cannot be read"):
        open_run(store.place("nowhere"))
    write_run(store.place("after"), [record("A", "丙")], [rejection("B", "1.jpg")], fingerprint="f2")
    (mission,) = compare_runs(store.place("before"), store.place("after")).missions
    assert (mission.summaries_changed, len(mission.rejections), mission.notices) == (1, 1, ())
    store.proxy.fail_always("denied", "list-type")
    with pytest.raises(StoreError, match=r"before cannot be listed: .*check the network"):
        open_run(store.place("before"))

"""Whole runs compared, from their files."""

import json

import pytest

from stage_a_pipeline.errors import OutputError, RecordError
from stage_a_pipeline.jsonl import output_paths, write_rejections
from stage_a_pipeline.run_comparison.comparison import compare_runs
from stage_a_pipeline.run_comparison.document import write_document
from tests.conftest import BRACKETS, MISSION
from tests.run_comparison.runs import board, record, rejection, write_run

KEPT = record("QC-1", board(), "一行文字")


@pytest.fixture
def runs(tmp_path):
    after = [KEPT, record("QC-2", board("方向错误"), label="fail"), record("QC-4", board())]
    lost = [rejection("QC-3", "1.jpg", reason="empty"), rejection("QC-9", "2.jpg")]
    write_run(tmp_path / "after", after, lost, fingerprint="f2", engine={"checkpoint": "/models/new"})
    return write_before(tmp_path / "before"), tmp_path / "after"


def write_before(folder):
    records = [
        record("QC-0", board()),
        KEPT,
        record("QC-2", board(), label="fail"),
        record("QC-3", board()),
    ]
    return write_run(folder, records, [rejection("QC-4", "1.jpg")])


def compare(runs, **options):
    (mission,) = compare_runs(*runs, **options).missions
    return mission


def test_a_run_compared_with_its_repetition_is_the_same(runs, tmp_path):
    comparison = compare_runs(runs[0], write_before(tmp_path / "again"))
    assert comparison.is_same
    (mission,) = comparison.missions
    assert (mission.groups, mission.photos, mission.settings.changes) == (4, 5, ())
    assert mission.settings.sentence.startswith("nothing that shapes answers was changed")


def test_groups_are_lost_and_gained_with_the_cause(runs):
    found = compare(runs)
    assert not found.is_same
    assert [(one.group_id, one.cause) for one in found.lost] == [
        ("QC-0", "not_discovered"),
        ("QC-3", "rejected"),
    ]
    assert [(line.image, line.reason) for line in found.lost[1].rejected] == [("1.jpg", "empty")]
    assert [(one.group_id, one.cause) for one in found.gained] == [("QC-4", "rejected")]
    assert (found.groups, found.photos, found.summaries_changed) == (2, 3, 1)


def test_photos_are_rejected_newly_or_no_longer(runs):
    told = [(one.group_id, one.before is None, one.after is None) for one in compare(runs).rejections]
    assert told == [("QC-3", True, False), ("QC-9", True, False), ("QC-4", False, True)]


def test_what_was_changed_between_the_runs_is_told_from_the_manifests(runs):
    settings = compare(runs).settings
    assert [(one.name, one.before, one.after) for one in settings.changes] == [
        ("fingerprint", "f1", "f2"),
        ("engine.checkpoint", "builtin", "/models/new"),
    ]
    assert settings.sentence == "changed, of what may shape answers: engine.checkpoint"


def test_other_weights_under_the_same_name_are_told(runs, tmp_path):
    write_run(tmp_path / "weights", [KEPT], fingerprint="f3")
    sentence = compare([runs[0], tmp_path / "weights"]).settings.sentence
    assert "the fingerprints differ, and no prompt or setting does" in sentence
    write_run(tmp_path / "prompt", [KEPT], fingerprint="f4", prompt_hash="p2")
    assert compare([runs[0], tmp_path / "prompt"]).settings.sentence.endswith("answers: prompt_hash")


def test_a_sample_leaves_open_whether_a_lost_group_was_discovered(runs, tmp_path):
    sampled = write_run(tmp_path / "sampled", [KEPT], sampled_out=3)
    assert {one.cause for one in compare([runs[0], sampled]).lost} == {"not_sampled_or_not_discovered"}


def test_without_manifest_and_rejected_lines_the_records_are_compared_all_the_same(runs):
    paths = output_paths(runs[1], MISSION)
    paths.manifest.unlink()
    paths.rejected.unlink()
    found = compare(runs)
    assert (found.settings, found.after.counts) == (None, None)
    assert [one.cause for one in found.lost] == ["unknown", "unknown"]
    assert found.summaries_changed == 1
    told = [(notice.side, notice.kind) for notice in found.notices]
    assert told == [("after", "manifest_missing"), ("after", "rejected_missing")]


def test_rejected_lines_of_a_later_failed_run_are_left_out_and_told(runs):
    write_rejections(output_paths(runs[1], MISSION).rejected, [rejection("QC-0", "1.jpg")])
    found = compare(runs)
    assert {one.cause for one in found.lost} == {"not_discovered"}
    assert [notice.kind for notice in found.notices] == ["rejected_differs"]


def test_records_that_the_manifest_does_not_describe_are_told(runs):
    jsonl = output_paths(runs[0], MISSION).jsonl
    jsonl.write_text("".join(jsonl.read_text().splitlines(keepends=True)[1:]))
    (notice,) = compare(runs).notices
    assert notice.sentence().startswith(f"before: {jsonl} is not the file that its manifest describes")


def test_a_damaged_manifest_is_told_and_ends_nothing(runs):
    output_paths(runs[0], MISSION).manifest.write_text("{}")
    found = compare(runs)
    assert [(notice.side, notice.kind) for notice in found.notices] == [("before", "manifest_damaged")]
    assert (found.settings, found.groups) == (None, 2)


@pytest.mark.parametrize("name", ["jsonl", "rejected"])
def test_a_broken_line_is_an_error_with_file_and_line(runs, name):
    path = getattr(output_paths(runs[1], MISSION), name)
    output_paths(runs[1], MISSION).manifest.unlink()
    path.write_text(path.read_text() + "{\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(RecordError, match=rf"{path.name}, line {line}: record: is not valid JSON"):
        compare_runs(*runs)


def test_missions_of_one_run_alone_are_told_unless_others_were_asked_for(runs):
    write_run(runs[1], [record("B", "乙", mission=BRACKETS)], mission=BRACKETS)
    comparison = compare_runs(*runs)
    assert (comparison.only_before, comparison.only_after) == ((), (BRACKETS,))
    assert compare_runs(*runs, missions=[MISSION]).only_after == ()


def test_the_document_holds_everything_and_the_same_bytes_each_time(runs, tmp_path):
    comparison = compare_runs(*runs)
    for name in ("one.json", "two.json"):
        write_document(tmp_path / name, comparison)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    document = json.loads((tmp_path / "one.json").read_text("utf-8"))
    mission = document["missions"][MISSION]
    assert (document["version"], document["same"], mission["same"]) == (1, False, False)
    assert [group["cause"] for group in mission["groups_lost"]] == ["not_discovered", "rejected"]
    (group,) = mission["groups_changed"]
    (change,) = group["summaries"]
    assert (change["kind"], change["before"], change["after"]) == ("content", board(), board("方向错误"))
    assert [one["kind"] for one in change["differences"]] == ["removed", "added"]
    shares = {one["value"]: one["paired"]["after"] for one in mission["frequencies"]}
    assert shares["方向错误"] == {"photos": 1, "of": 3}


def test_a_text_change_stands_in_the_document_piece_by_piece(tmp_path):
    write_run(tmp_path / "a", [record("QC-1", "螺丝已拧紧")])
    write_run(tmp_path / "b", [record("QC-1", "螺丝未拧紧")])
    write_document(tmp_path / "c.json", compare_runs(tmp_path / "a", tmp_path / "b"))
    (mission,) = json.loads((tmp_path / "c.json").read_text("utf-8"))["missions"].values()
    (change,) = mission["groups_changed"][0]["summaries"]
    assert change["kind"] == "text"
    assert change["pieces"] == [["same", "螺丝"], ["removed", "已"], ["added", "未"], ["same", "拧紧"]]


def test_the_document_never_replaces_a_file_that_was_compared(runs):
    comparison = compare_runs(*runs)
    before = (path := output_paths(runs[0], MISSION).jsonl).read_bytes()
    with pytest.raises(OutputError, match="is one of the files compared"):
        write_document(path, comparison)
    assert path.read_bytes() == before

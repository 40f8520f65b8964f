"""The truth sidecar: what is refused with which words, and which lines belong to which photos."""

import json
import unicodedata
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.evaluation.truth import (
    Unmatched,
    count_unmatched,
    find_sidecar,
    match_truth,
    read_sidecar,
    require_truths,
    tree_root,
)
from stage_a_pipeline.settings import EvaluationSettings
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.evaluation.conftest import MISSIONS, NOTHING, RRU, wire

FAIL = f"{MISSION}/审核不通过/QC-20241028-fail001"
PASS = f"{MISSION}/审核通过/QC-20241028-pass001"


def write(path, *lines):
    rows = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return path


def line(path, summary=NOTHING, **more):
    return {"path": path, "summary": summary, **more}


@pytest.fixture
def sidecar_path(tmp_path):
    return tmp_path / "truth.jsonl"


@pytest.fixture
def groups(tmp_path):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [2], "pass": [1]})
    return discover_groups(root, MISSION).groups


def match(groups, path, mission=MISSION):
    return match_truth(MISSIONS[mission], groups, read_sidecar(path))


REFUSED = [
    ("[1]", "record", "JSON object"),
    ('{"path": "a.jpg"', "record", "not valid JSON"),
    ("", "record", "blank line"),
    ('{"path": "a", "path": "b", "summary": null}', "path", "twice"),
    ({"summary": None}, "path", "is missing"),
    ({"path": "a.jpg"}, "summary", "is missing"),
    (line("a.jpg", 5), "summary", "must be text, or null"),
    (line(""), "path", "must be a photo's path"),
    (line(7), "path", "must be a photo's path"),
    (line("a\\b.jpg"), "path", "forward slashes"),
    (line("/a/b.jpg"), "path", "leaves the root"),
    (line("a/../../b.jpg"), "path", "leaves the root"),
    (line("first.jpg"), "path", "stands on line 1 too"),
    (line("./first.jpg"), "path", "stands on line 1 too"),
    (line("a.jpg", label="通过"), "label", "must be one of pass, fail"),
    (line("a.jpg", verdict="good"), "verdict", "must be one of pass, fail"),
]


@pytest.mark.parametrize(("bad", "field", "problem"), REFUSED)
def test_a_bad_line_is_named_with_file_field_and_problem(sidecar_path, bad, field, problem):
    write(sidecar_path, line("first.jpg"), bad)
    with pytest.raises(RecordError) as caught:
        read_sidecar(sidecar_path)
    assert str(caught.value).startswith(f"{sidecar_path}, line 2: {field}: ")
    assert problem in str(caught.value)


def test_a_runaway_value_does_not_make_a_runaway_message(sidecar_path):
    write(sidecar_path, line("a.jpg", ["y" * 10**6]))
    with pytest.raises(RecordError, match="must be text, or null") as caught:
        read_sidecar(sidecar_path)
    assert len(str(caught.value)) < 400 + len(str(sidecar_path))


def test_a_missing_file_is_named_with_the_remedy(sidecar_path):
    with pytest.raises(InputError, match=r"truth\.jsonl cannot be read: .*evaluation\.truth \(--truth\)"):
        read_sidecar(sidecar_path)


def test_what_is_not_needed_may_be_there_or_not(sidecar_path):
    write(sidecar_path, line("甲/乙.jpg", None, label="fail", verdict="pass", broken="cut", more=[1]))
    (truth,) = read_sidecar(sidecar_path).truths.values()
    assert (truth.path, truth.summary, truth.label, truth.verdict) == ("甲/乙.jpg", None, "fail", "pass")


def test_photos_are_matched_by_their_path_below_the_root(groups, sidecar_path):
    write(
        sidecar_path,
        line(f"{FAIL}/IMG_1.jpg", wire(整齐=1)),
        line(f"{FAIL}/IMG_2.jpg", None),
        line(f"{FAIL}/IMG_3.jpg"),
        line(f"{BRACKETS}/审核通过/x/IMG_1.jpg"),
    )
    truth = match(groups, sidecar_path)
    assert {place: known.summary for place, known in truth.truths.items()} == {(0, 1): wire(整齐=1)}
    unmatched = count_unmatched([truth], read_sidecar(sidecar_path))
    assert unmatched == Unmatched(
        photos_without_truth_line=1,
        photos_without_true_summary=1,
        truth_lines_without_photo=1,
        truth_lines_not_evaluated=0,
        truth_lines_of_other_missions=1,
    )
    assert unmatched.sentences() == [
        "photos without a line in the truth sidecar: 1",
        "photos whose line has no summary: 1",
        "truth lines without a photo: 1",
        "truth lines of other missions: 1",
    ]


def test_lines_of_photos_that_were_sampled_out_are_told_apart_from_lines_without_photo(groups, sidecar_path):
    write(sidecar_path, line(f"{FAIL}/IMG_1.jpg"), line(f"{PASS}/IMG_1.jpg"))
    truth = match(groups[:1], sidecar_path)
    assert truth.unmatched == Unmatched(photos_without_truth_line=1, truth_lines_not_evaluated=1)


def test_a_path_that_no_file_can_have_is_a_line_without_photo(groups, sidecar_path):
    lines = [json.dumps(line(f"{PASS}/{name}.jpg")) for name in ("x" * 400, "\ud800", "IMG_1")]
    write(sidecar_path, *lines)
    assert match(groups, sidecar_path).unmatched.truth_lines_without_photo == 2


def test_names_match_in_any_unicode_form(tmp_path, sidecar_path):
    root = write_groups(tmp_path / "in", MISSION, {"pass": [1]})
    folder = root / MISSION / "审核通过" / "QC-20241028-pass001"
    folder.rename(folder.with_name(unicodedata.normalize("NFD", "gé")))
    write(sidecar_path, line(f"{MISSION}/审核通过/{unicodedata.normalize('NFC', 'gé')}/IMG_1.jpg"))
    assert match(discover_groups(root, MISSION).groups, sidecar_path).truths


def test_an_alias_s_folder_belongs_to_its_mission(tmp_path, sidecar_path):
    root = write_groups(tmp_path / "in", "BBU线缆布放要求", {"pass": [1]})
    write(sidecar_path, line("BBU线缆布放要求/审核通过/QC-20241028-pass001/IMG_1.jpg"))
    groups = discover_groups(root, "BBU线缆布放").groups
    truth = match(groups, sidecar_path, "BBU线缆布放")
    assert len(truth.truths) == 1
    assert count_unmatched([truth], read_sidecar(sidecar_path)) == Unmatched()


@pytest.mark.parametrize("summary", ["", "一行文字", '{"统计": []}', '{"统计": [{"类别": "尾纤"}]}'])
def test_a_true_summary_that_is_not_valid_is_named_with_its_line(groups, sidecar_path, summary):
    write(sidecar_path, line(f"{PASS}/IMG_1.jpg"), line(f"{FAIL}/IMG_1.jpg", summary))
    with pytest.raises(RecordError, match=r"truth\.jsonl, line 2: summary: is no valid bbu summary of"):
        match(groups, sidecar_path)


def test_summaries_of_other_missions_are_not_looked_at(groups, sidecar_path):
    write(sidecar_path, line(f"{PASS}/IMG_1.jpg"), line(f"{RRU.name}/审核通过/g/a.jpg", "一行文字"))
    assert len(match(groups, sidecar_path).truths) == 1


@pytest.mark.parametrize("lines", [[], [line(f"{FAIL}/IMG_9.jpg")], [line(f"{FAIL}/IMG_1.jpg", None)]])
def test_no_true_summary_for_any_photo_is_an_error(groups, sidecar_path, lines):
    sidecar = read_sidecar(write(sidecar_path, *lines))
    truth = match_truth(MISSIONS[MISSION], groups, sidecar)
    with pytest.raises(InputError, match=r"has no summary for any photo of 挡风板安装检查: .*photos w"):
        require_truths([truth], sidecar, count_unmatched([truth], sidecar))


def test_the_sidecar_of_the_root_is_found_unless_another_is_configured(tmp_path, groups):
    root = tree_root(groups)
    assert root == tmp_path / "in"
    assert find_sidecar(EvaluationSettings(), root) is None
    (root / "truth.jsonl").touch()
    assert find_sidecar(EvaluationSettings(), root) == root / "truth.jsonl"
    assert find_sidecar(EvaluationSettings(truth="/x/y.jsonl"), root) == Path("/x/y.jsonl")

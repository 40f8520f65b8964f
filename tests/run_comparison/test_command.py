"""`stage-a compare` as people and pipelines call it."""

import json

import pytest
from click.testing import CliRunner

from stage_a_pipeline import terminal
from stage_a_pipeline.cli import main
from tests.conftest import MISSION, write_groups, write_photo
from tests.run_comparison.runs import board, record, rejection, write_run

ESCAPE = "\x1b]0;owned\x07"


@pytest.fixture
def runs(tmp_path):
    groups = [record(f"QC-{number}", board(), board()) for number in range(12)]
    turned = [record(f"QC-{number}", board("方向错误"), board()) for number in range(12)]
    before = [*groups, record("QC-x", "螺丝已拧紧"), record(f"QC{ESCAPE}", "甲")]
    after = [*turned, record("QC-x", f"螺丝未拧紧{ESCAPE}")]
    write_run(tmp_path / "a", before)
    write_run(tmp_path / "b", after, [rejection("QC-9x", f"1{ESCAPE}.jpg")])
    return str(tmp_path / "a"), str(tmp_path / "b")


def stage_a(*arguments):
    return CliRunner().invoke(main, ["compare", *arguments])


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setattr(terminal.console, "width", 160)


def test_everything_that_differs_is_shown_with_signs_that_need_no_colour(runs):
    ran = stage_a(*runs)
    assert ran.exit_code == 0, ran.output
    assert "summaries changed, of 25 photos in both runs: 13" in ran.output
    assert "QC-0/1.jpg: 挡风板.安装方向 [-方向正确 1-]; 挡风板.安装方向 {+方向错误 1+}" in ran.output
    assert "and 3 more: see --json or --page" in ran.output
    assert "groups lost: 1" in ran.output
    assert "[-not rejected-] {+read: truncated+}" in ran.output
    (row,) = [line for line in ran.output.splitlines() if line.startswith("挡风板.安装方向 方向错误")]
    assert row.split()[2:6] == ["0.0%", "48.0%", "12", "0"]


def test_a_text_shows_what_was_taken_out_and_put_in(runs):
    told = stage_a(*runs, "--list", "20").output
    assert "QC-x/1.jpg: 螺丝[-已-]{+未+}拧紧{+\ufffd]0;owned\ufffd+}" in told


def test_words_of_files_do_not_steer_the_terminal(runs):
    told = stage_a(*runs, "--list", "20").output
    assert "owned" in told
    assert not set(told) & {"\x1b", "\x07"}


def test_a_change_fails_the_command_where_that_is_asked_for(runs, tmp_path):
    assert stage_a(*runs, "--fail-on-change").exit_code == 3
    write_run(tmp_path / "c", [record("QC-1", board())])
    write_run(tmp_path / "d", [record("QC-1", board())], fingerprint="f2")
    same = stage_a(str(tmp_path / "c"), str(tmp_path / "d"), "--fail-on-change")
    assert (same.exit_code, "both runs delivered the same: 1 groups, 1 photos" in same.output) == (0, True)


def test_errors_are_one_sentence(runs, tmp_path):
    ran = stage_a(runs[0], str(tmp_path / "nowhere"))
    assert (ran.exit_code, ran.output.count("\n")) == (1, 1)
    assert "nowhere cannot be read" in ran.output
    twice = stage_a(runs[0], runs[0])
    assert "both runs are the same" in twice.output


def test_the_whole_comparison_goes_to_a_file(runs, tmp_path):
    ran = stage_a(*runs, "--mission", MISSION, "--json", str(tmp_path / "new" / "c.json"))
    assert ran.exit_code == 0, ran.output
    document = json.loads((tmp_path / "new" / "c.json").read_text("utf-8"))
    assert len(document["missions"][MISSION]["groups_changed"]) == 13


def test_pages_come_with_thumbnails_of_the_photos_that_changed(runs, tmp_path):
    (tmp_path / "report.toml").write_text("[report]\ngroups_per_page = 5\n")
    write_groups(tmp_path / "in", MISSION, {"pass": [1]})
    folder = tmp_path / "in" / MISSION / "审核通过"
    (folder / "QC-20241028-pass001").rename(folder / "QC-3")
    (folder / "QC-3" / "IMG_1.jpg").rename(folder / "QC-3" / "1.jpg")
    write_photo(folder / "QC-3" / "2.jpg", seed=9)
    options = (
        "--photos",
        str(tmp_path / "in"),
        "--language",
        "en",
        "--settings",
        str(tmp_path / "report.toml"),
    )
    ran = stage_a(*runs, "--page", str(tmp_path / "pages"), *options)
    assert ran.exit_code == 0, ran.output
    assert 'lang="en"' in (tmp_path / "pages" / "index.html").read_text("utf-8")
    (index,) = (tmp_path / "pages" / "changes").rglob("1-index.js")
    assert '"per_page":5' in index.read_text("utf-8")
    assert len(list((tmp_path / "pages" / "thumbnails").rglob("*.jpg"))) == 1


def test_photos_without_pages_are_a_wrong_command_line(runs, tmp_path):
    ran = stage_a(*runs, "--photos", str(tmp_path))
    assert (ran.exit_code, "--photos are for pages" in ran.output) == (2, True)

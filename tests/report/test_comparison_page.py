"""The pages of a comparison, as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.report.comparison_page import ComparisonPhotos, distinct_names, write_comparison_pages
from stage_a_pipeline.run_comparison.comparison import compare_runs
from stage_a_pipeline.settings_report import ReportSettings
from tests.conftest import BRACKETS, LABEL_FOLDERS, MISSION, write_photo
from tests.run_comparison.runs import board, record, rejection, write_run

BEFORE = [
    record("QC-1", board(), "螺丝已拧紧"),
    record("QC-2", board(), label="fail", fail_reasons=("方向错误",)),
    record("QC-3", board()),
    record("QC-4", board()),
    record("QC-5", board()),
]
AFTER = [
    record("QC-1", board("方向错误"), "螺丝未拧紧"),
    record("QC-2", board(), label="fail", fail_reasons=("未安装",)),
    record("QC-3", board(), label="fail"),
    record("QC-5", board()),
    record("QC-6", board()),
]


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs" / "old", BEFORE, engine={"checkpoint": "/secret/v1/qwen"})
    write_run(
        tmp_path / "runs" / "new",
        AFTER,
        [rejection("QC-4", "1.jpg"), rejection("QC-7", "2.jpg")],
        engine={"checkpoint": "/secret/v2/qwen"},
        fingerprint="f2",
    )
    return tmp_path / "runs" / "old", tmp_path / "runs" / "new"


def write_pages(runs, folder, photos=None, **settings):
    chosen = ReportSettings.model_validate({"language": "en", **settings})
    return write_comparison_pages(folder, compare_runs(*runs), chosen, photos)


def photos_of(root):
    return ComparisonPhotos(ON_DISK, lambda mission: discover_groups(root, mission).groups)


def groups_of(folder, number=1):
    (data,) = (folder / "changes").iterdir()
    told = (data / f"{number}-00001.js").read_text("utf-8")
    return json.loads(told.removeprefix("report.add(0, ").removesuffix(");\n"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_changed_group_is_there_with_all_that_differs(runs, tmp_path):
    assert write_pages(runs, tmp_path / "page") == tmp_path / "page" / "index.html"
    groups = groups_of(tmp_path / "page")
    assert [(group["id"], group["kinds"]) for group in groups] == [
        ("QC-4", ["lost", "rejection"]),
        ("QC-6", ["gained"]),
        ("QC-1", ["content", "text"]),
        ("QC-2", ["fail_reasons"]),
        ("QC-3", ["label"]),
        ("QC-7", ["rejection"]),
    ]
    by_id = {group["id"]: group for group in groups}
    assert by_id["QC-4"]["cause"] == "rejected"
    assert by_id["QC-4"]["photos"][0]["reason"] == "truncated"
    assert by_id["QC-2"]["reasons"] == [["方向错误"], ["未安装"]]
    assert (by_id["QC-3"]["was"], by_id["QC-3"]["label"]) == ("pass", "fail")
    first, second = by_id["QC-1"]["photos"]
    assert first["differences"] == [
        ["挡风板.安装方向", "方向正确", 1, 0],
        ["挡风板.安装方向", "方向错误", 0, 1],
    ]
    assert second["pieces"][1:3] == [["removed", "已"], ["added", "未"]]


def test_pages_do_not_tell_where_things_lie_on_this_machine(runs, tmp_path):
    write_pages(runs, tmp_path / "page")
    for name, content in contents(tmp_path / "page").items():
        assert str(tmp_path).encode() not in content, name
        assert b"/secret" not in content, name
    overview = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert "v1/qwen" in overview
    assert "v2/qwen" in overview


def test_the_same_comparison_gives_the_same_bytes_and_another_one_replaces_it(runs, tmp_path):
    page = tmp_path / "page"
    write_run(runs[0], [record("B", "乙", mission=BRACKETS)], mission=BRACKETS)
    write_run(runs[1], [record("B", "丙", mission=BRACKETS)], mission=BRACKETS)
    write_pages(runs, page)
    first = contents(page)
    write_pages(runs, page)
    assert contents(page) == first
    assert "changes-2.html" in first
    write_comparison_pages(page, compare_runs(*runs, missions=[MISSION]), ReportSettings())
    assert not (page / "changes-2.html").exists()
    assert len(list((page / "changes").iterdir())) == 1


def test_a_folder_of_other_things_is_refused_and_left_as_it_was(runs, tmp_path):
    with pytest.raises(OutputError, match="holds other things; give an empty or new one"):
        write_pages(runs, runs[0])
    assert not (runs[0] / "index.html").exists()


def test_photos_that_differ_have_thumbnails_where_the_tree_has_them(runs, tmp_path):
    # QC-3 lies where the run after has seen it; of QC-1 one photo has gone since.
    for place, (label, group, name) in enumerate(
        [
            ("pass", "QC-1", "1.jpg"),
            ("pass", "QC-1", "2.jpg"),
            ("pass", "QC-5", "1.jpg"),
            ("fail", "QC-3", "1.jpg"),
        ]
    ):
        write_photo(tmp_path / "in" / MISSION / LABEL_FOLDERS[label] / group / name, seed=place)
    tree = photos_of(tmp_path / "in")
    (tmp_path / "in" / MISSION / LABEL_FOLDERS["pass"] / "QC-1" / "2.jpg").write_bytes(b"")
    write_pages(runs, tmp_path / "page", tree)
    with_thumbnail = {
        (group["id"], photo["name"])
        for group in groups_of(tmp_path / "page")
        for photo in group["photos"]
        if "thumbnail" in photo
    }
    assert with_thumbnail == {("QC-1", "1.jpg")}
    assert len(list((tmp_path / "page" / "thumbnails").rglob("*.jpg"))) == 1
    write_pages(runs, tmp_path / "page", tree, thumbnails=False)
    assert all(
        "thumbnail" not in photo for group in groups_of(tmp_path / "page") for photo in group["photos"]
    )


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("/data/runs/old", "/data/runs/new", ("old", "new")),
        ("/data/old/out", "/data/new/out", ("old/out", "new/out")),
        ("/data/out", "/data/out/new", ("out", "out/new")),
        ("/a/x", "/b/x", ("a/x", "b/x")),
        ("a", "b", ("a", "b")),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(before, after, names):
    assert distinct_names(Path(before), Path(after)) == names

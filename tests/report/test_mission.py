"""A report tells what is delivered, as a whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from stage_a_pipeline.errors import InputError, LockedError, OutputError, RecordError
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.report.mission import MissionReport
from stage_a_pipeline.storage import claim_output
from tests.conftest import MISSION
from tests.report.conftest import Shot, Ticket, deliver, tree_of, write_report

SUMMARY = '{"统计": [{"类别": "BBU设备", "品牌": {"华为": 1}}]}'
NAMED = "QC-BBU-20241028-7"
"""A group that is called after its photo, not after its folder."""
TICKETS = [
    Ticket("fail", "QC-1", [Shot("1.jpg", SUMMARY), Shot("2.jpg", "无关图片")], ("方向错误",)),
    Ticket("pass", NAMED, [Shot(f"{NAMED}.jpg", SUMMARY)], folder="other"),
    Ticket("pass", "QC-2", [Shot("1.jpg", rejected=("truncated", "ends early")), Shot("2.jpg", "x")]),
]


@pytest.fixture
def settings(tmp_path):
    return deliver(tmp_path, TICKETS)


def groups_of(settings) -> list[dict]:
    (data,) = (settings.report_dir / MISSION / "data").iterdir()
    told = (data / "groups-00001.js").read_text("utf-8")
    return json.loads(told.removeprefix("report.add(0, ").removesuffix(");\n"))


def test_groups_come_with_their_photos_reasons_and_rejections(settings):
    report = write_report(settings)
    assert (report.groups, report.photos, report.photos_without_thumbnail) == (3, 5, 0)
    fail, passed, lost = groups_of(settings)
    assert (fail["id"], fail["folder"], fail["reasons"]) == ("QC-1", "审核不通过/QC-1", ["方向错误"])
    assert passed["folder"] == "审核通过/other"
    assert [photo.get("reason") for photo in lost["photos"]] == ["truncated", None]
    assert lost["photos"][0]["detail"] == "ends early"
    for photo in fail["photos"]:
        assert (settings.report_dir / MISSION / "thumbnails" / photo["thumbnail"]).is_file()


def test_the_same_delivery_gives_the_same_bytes(settings):
    def contents() -> dict[str, bytes]:
        folder = settings.report_dir / MISSION
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }

    write_report(settings)
    first = contents()
    write_report(settings)
    assert contents() == first


def test_what_is_no_longer_told_is_removed(settings, tmp_path):
    write_report(settings)
    before = {path.name for path in (settings.report_dir / MISSION / "thumbnails").rglob("*.jpg")}
    deliver(tmp_path, TICKETS[1:])
    write_report(settings)
    after = {path.name for path in (settings.report_dir / MISSION / "thumbnails").rglob("*.jpg")}
    assert len(list((settings.report_dir / MISSION / "data").iterdir())) == 1
    assert len(before - after) >= 2


def test_photos_that_have_gone_are_counted_and_told(settings):
    tree = tree_of(settings)
    for group in tree[:1]:
        for image in group.images:
            image.path.unlink()
    report = write_report(settings)
    assert report.photos_without_thumbnail == 2
    assert "warning_photos_gone" in report.index.read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "notice"), [("jsonl", "warning_jsonl_differs"), ("rejected", "warning_rejected_differs")]
)
def test_files_that_are_not_the_manifest_s_are_told(settings, file, notice):
    path = getattr(output_paths(settings.output.output_dir, MISSION), file)
    assert notice not in write_report(settings).index.read_text("utf-8")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    assert notice in write_report(settings).index.read_text("utf-8")


def test_nothing_delivered_and_a_broken_file_are_named_and_leave_the_old_report(settings, tmp_path):
    report = write_report(settings)
    page = report.index.read_bytes()
    paths = output_paths(settings.output.output_dir, MISSION)
    paths.jsonl.write_text("{}\n")
    with pytest.raises(RecordError, match="line 1: group_id: is missing"):
        write_report(settings)
    assert report.index.read_bytes() == page
    paths.jsonl.unlink()
    with pytest.raises(InputError, match=f"run mission {MISSION} first"):
        write_report(settings)


def test_a_second_writer_is_refused_by_name(settings):
    locks = settings.output.work_dir / "locks" / "report"
    with (
        claim_output(locks, MISSION, run_id="first", purpose="write the report"),
        pytest.raises(LockedError, match=f"the report of mission {MISSION}"),
    ):
        write_report(settings)


KILLED = """
import sys
from pathlib import Path
from stage_a_pipeline.report import mission
from stage_a_pipeline.settings import Settings
from tests.report.conftest import write_report
base = Path(sys.argv[1])
settings = Settings.model_validate(
    {"discovery": {"input_root": base / "in"}, "output": {"output_dir": base / "out"}}
)
def slow(folder):
    print("data is there", flush=True)
    sys.stdin.read()
mission.write_static = slow
write_report(settings)
"""


def test_a_report_that_is_killed_half_way_leaves_the_old_one_and_the_next_cleans_up(settings, tmp_path):
    report = write_report(settings)
    pages = {path: path.read_bytes() for path in report.index.parent.glob("*.html")}
    deliver(tmp_path, TICKETS[:1])
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "data is there\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert {path: path.read_bytes() for path in pages} == pages
    data = report.index.parent / "data"
    assert len(list(data.iterdir())) == 2
    assert write_report(settings).groups == 1
    assert len(list(data.iterdir())) == 1
    assert not (report.index.parent / ".data").exists()


@pytest.mark.parametrize(
    ("figures", "told", "untold"),
    [
        ({}, "throughput_unknown", "figure_inferred"),
        ({"inferred": 3, "seconds": 2.5, "images_per_second": 1.2}, "photos_per_second", "throughput_shared"),
        (
            {"inferred": 3, "seconds": 0, "images_per_second": 0},
            "throughput_shared",
            "figure_images_per_second",
        ),
    ],
)
def test_rates_are_told_where_seconds_were_counted(settings, figures, told, untold):
    page = write_report(settings, **figures).index.read_text("utf-8")
    assert f'data-text="{told}"' in page
    assert f'data-text="{untold}"' not in page
    assert ('data-text="figure_inferred"' in page) == bool(figures)


def test_nothing_of_this_machine_is_told(settings):
    write_report(settings)
    for path in (settings.report_dir / MISSION).rglob("*"):
        if path.suffix in (".html", ".js"):
            assert str(settings.require_input_root().parent) not in path.read_text("utf-8")


def test_a_mission_s_name_cannot_lead_out_of_the_folder(settings):
    with pytest.raises(OutputError, match="cannot be a file name"):
        MissionReport("../elsewhere", settings)

"""A reviewers' workbook with everything that people and programs do to one, through the whole pipeline."""

from __future__ import annotations

import pytest
import xlsxwriter

from stage_a_pipeline.jsonl import output_paths, read_records
from tests.conftest import MISSION, write_photo
from tests.faults.conftest import HERE, group_folder

ID, NAME, REASON, FLAG = 0, 2, 5, 6
EXPECTED = {
    "123": ("松动",),
    "00123": ("前导零",),
    "merged": ("一", "二"),
    "conflicting": ("缺失",),
    "wide space": ("全角 空格",),
    "twice": ("乙", "甲"),
    "flag as text": ("文字",),
    "only passed": (),
    "without a reason": (),
    "formula": (),
    "not in the sheet": (),
}
"""Fail groups, and the reasons they must get."""


def write_workbook(path):
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        rows = [
            (123.0, MISSION, "松动", 2),
            ("00123", MISSION, "前导零", 2),
            ("merged", MISSION, "一", 2),
            (None, MISSION, "二", 2),
            ("conflicting", MISSION, "缺失", 2),
            ("conflicting", MISSION, "没问题", 1),
            ("\u3000wide space\u3000", f"\u3000{MISSION} ", "\u3000全角\u3000空格 ", 2),
            ("twice", MISSION, "甲", 2),
            ("twice", MISSION, "乙", 2.0),
            ("twice", MISSION, "甲 ", 2),
            ("flag as text", MISSION, "文字", "2"),
            ("only passed", MISSION, "好", 1),
            ("without a reason", MISSION, "\u3000", 2),
            ("formula", MISSION, None, 2),
            ("not in the tree", MISSION, "没有照片", 2),
            ("00123", "BBU接地线检查", "别的任务", 2),
            ("00123", "不存在的任务", "别的任务", 2),
            (True, MISSION, "真", 2),
        ]
        for number, values in enumerate(rows):
            for column, value in zip((ID, NAME, REASON, FLAG), values, strict=True):
                if value is not None:
                    sheet.write(number, column, value)
        sheet.merge_range(2, ID, 3, ID, "merged")
        sheet.write_formula(13, REASON, "=Z1", None, "")
    return path


@pytest.fixture
def reviewed(make_workplace):
    """A fail group for each ticket, and one pass group that the sheet calls a fail."""
    workplace = make_workplace({"pass": [1]})
    for number, name in enumerate(EXPECTED):
        write_photo(group_folder(workplace.root, name, "fail") / "IMG_1.jpg", seed=500 + number)
    write_photo(group_folder(workplace.root, "123", "pass") / "IMG_1.jpg", seed=600)
    write_workbook(workplace.folder / "reviews.xlsx")
    (workplace.folder / "~$reviews.xlsx").write_bytes(b"\x05user")
    return workplace


def test_reasons_survive_what_people_do_to_a_sheet(reviewed):
    reviewed.configure(fail_reasons={"workbook": "reviews.xlsx"}, inference=HERE)
    ended = reviewed.run_here()
    assert ended.code == 0
    records = list(read_records(reviewed.jsonl))
    failed = {record.group_id: record.fail_reasons for record in records if record.label == "fail"}
    assert failed == EXPECTED
    assert all(record.fail_reasons is None for record in records if record.label == "pass")
    assert "unknown missions '不存在的任务'" in ended.output
    assert "group ids have become dates or truth values (rows 18)" in ended.output


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("~$reviews.xlsx", "is the mark that an office program leaves beside an open workbook"),
        ("gone.xlsx", "cannot be read: No such file or directory; correct fail_reasons.workbook"),
        ("faults.toml", "is no readable xlsx, xls or ods workbook"),
    ],
)
def test_what_is_no_workbook_fails_the_run_and_leaves_the_last_good_file(reviewed, name, told):
    assert reviewed.run_here().code == 0
    before = reviewed.published()
    reviewed.configure(fail_reasons={"workbook": name})
    ended = reviewed.run_here()
    assert ended.code == 1
    assert told in ended.output
    assert reviewed.published() == before
    assert output_paths(reviewed.out, MISSION).manifest.exists()

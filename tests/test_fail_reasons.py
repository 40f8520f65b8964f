"""The reviewers' workbook, written by real writers in all three formats, and what becomes of its rows."""

from __future__ import annotations

import datetime
import io
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import xlsxwriter
import xlwt
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import Table, TableCell, TableRow
from odf.text import P

from stage_a_pipeline.errors import WorkbookError
from stage_a_pipeline.fail_reasons import (
    DROP_REASONS,
    SHEET_DATASETS,
    FailReasons,
    join_fail_reasons,
    load_fail_reasons,
    match_report,
)
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.settings import FailReasonSettings

FORMATS = ("xlsx", "xls", "ods")
MISSION = "BBU安装方式检查（正装）"
DAY = datetime.date(2024, 1, 15)


def write_xlsx(path: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> None:
    book = xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                if isinstance(value, str):
                    sheet.write_string(number, column, value)
                elif value is not None:
                    sheet.write(number, column, value)
    book.close()


def write_xls(path: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> None:
    book = xlwt.Workbook(encoding="utf-8")
    date_style = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                if value is not None:
                    style = (date_style,) if isinstance(value, datetime.date) else ()
                    sheet.write(number, column, value, *style)
    book.save(str(path))


def ods_cell(value: object) -> TableCell:
    if value is None:
        return TableCell()
    if isinstance(value, bool):
        return TableCell(valuetype="boolean", booleanvalue=str(value).lower())
    if isinstance(value, int | float):
        return TableCell(valuetype="float", value=repr(value))
    if isinstance(value, datetime.date):
        return TableCell(valuetype="date", datevalue=value.isoformat())
    cell = TableCell(valuetype="string")
    for line in str(value).split("\n"):
        cell.addElement(P(text=line))
    return cell


def write_ods(path: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> None:
    book = OpenDocumentSpreadsheet()
    for name, rows in sheets.items():
        table = Table(name=name)
        for row in rows:
            line = TableRow()
            for value in row:
                line.addElement(ods_cell(value))
            table.addElement(line)
        book.spreadsheet.addElement(table)
    book.save(str(path))


WRITERS = {"xlsx": write_xlsx, "xls": write_xls, "ods": write_ods}


def write_book(path: Path, rows: Sequence[Sequence[object]], *, sheet: str = "检查记录") -> Path:
    WRITERS[path.suffix[1:]](path, {sheet: rows})
    return path


def row(
    group_id: object, mission: object = MISSION, reason: object = "松动", flag: object = 2
) -> list[object]:
    return [group_id, "区县", mission, None, "备注", reason, flag]


@pytest.fixture(params=FORMATS)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a workbook goes, once per format."""
    return tmp_path / f"复核.{request.param}"


def load_rows(path: Path, *rows: list[object], **changes: object) -> FailReasons:
    return load_fail_reasons(write_book(path, rows), FailReasonSettings(**changes))


class TestReading:
    def test_reasons_are_gathered_once_and_sorted_per_ticket(self, book: Path) -> None:
        reasons = load_rows(
            book,
            row("QC-2", reason="松动"),
            row("QC-1", reason="缺失"),
            row("QC-2", reason="方向错误"),
            row("QC-2", reason="松动 "),
            row("QC-2", "BBU接地线检查", "散乱"),
        )
        assert reasons == FailReasons(
            {
                ("QC-1", MISSION): ("缺失",),
                ("QC-2", "BBU接地线检查"): ("散乱",),
                ("QC-2", MISSION): ("方向错误", "松动"),
            },
            rows_read=5,
        )
        assert list(reasons.by_ticket) == sorted(reasons.by_ticket)

    def test_reasons_are_sorted_by_code_point(self, book: Path) -> None:
        reasons = load_rows(book, *[row("1", reason=reason) for reason in "乙b丙A甲aB1"])
        assert reasons.by_ticket == {("1", MISSION): tuple(sorted("乙b丙A甲aB1"))}

    @pytest.mark.parametrize(
        ("cell", "group_id"),
        [
            ("QC-20240115-0000031", "QC-20240115-0000031"),
            (123, "123"),
            (123.0, "123"),
            (123.5, "123.5"),
            (0, "0"),
            ("0123", "0123"),
            ("123.0", "123.0"),
            ("\u3000QC-1\xa0", "QC-1"),
            ("\ufeffQC-1\u200b", "QC-1"),
            ("QC-1\n", "QC-1"),
            (unicodedata.normalize("NFD", "é1"), "é1"),
            (123456789012345, "123456789012345"),
        ],
    )
    def test_group_ids_are_text(self, book: Path, cell: object, group_id: str) -> None:
        reasons = load_rows(book, row(cell))
        assert list(reasons.by_ticket) == [(group_id, MISSION)]
        assert reasons.warnings == ()

    @pytest.mark.parametrize("flag", [2, 2.0, "2", " 2 ", "2.0", "２", "\u30002"])
    def test_the_fail_flag_may_be_number_or_text(self, book: Path, flag: object) -> None:
        assert load_rows(book, row("QC-1", flag=flag)).by_ticket

    @pytest.mark.parametrize("flag", [1, 2.5, "22", "二", "", None, True, False, "nan", DAY, -2, "#N/A"])
    def test_any_other_flag_is_no_fail(self, book: Path, flag: object) -> None:
        reasons = load_rows(book, row("QC-1"), row("QC-2", flag=flag))
        assert list(reasons.by_ticket) == [("QC-1", MISSION)]
        assert reasons.dropped_counts() == {"not_a_fail": 1}

    def test_another_fail_flag_is_a_setting(self, book: Path) -> None:
        reasons = load_rows(book, row("QC-1", flag=0), row("QC-2"), fail_flag=0)
        assert list(reasons.by_ticket) == [("QC-1", MISSION)]
        assert load_rows(book, row("QC-1", flag=1), row("QC-2", flag=True), fail_flag=1).dropped_counts() == {
            "not_a_fail": 1
        }

    def test_conflicting_rows_of_a_ticket_give_the_union_of_its_fails(self, book: Path) -> None:
        reasons = load_rows(book, row("1", reason="b"), row("1", reason="c", flag=1), row(1, reason="a"))
        assert reasons.by_ticket == {("1", MISSION): ("a", "b")}

    def test_a_reason_is_one_trimmed_line(self, book: Path) -> None:
        reasons = load_rows(book, row("1", reason="\u3000螺丝\n松动\xa0\t 缺失 "), row("2", reason=3.0))
        assert list(reasons.by_ticket.values()) == [("螺丝 松动 缺失",), ("3",)]

    def test_rows_are_dropped_by_reason_with_their_numbers(self, book: Path) -> None:
        reasons = load_rows(
            book,
            ["工单", "区县", "任务", None, None, "原因", "标记"],
            row(None),
            [None] * 7,
            row(" \u3000"),
            row("QC-3", mission=None),
            row("QC-4", reason=" "),
            row("QC-5", flag=1),
            row(DAY),
            row(True),
            row("QC-1"),
        )
        assert list(reasons.by_ticket) == [("QC-1", MISSION)]
        assert [(one.reason, one.count, one.rows) for one in reasons.dropped] == [
            ("no_group_id", 2, (2, 4)),
            ("group_id_is_no_text", 2, (8, 9)),
            ("no_mission", 1, (5,)),
            ("not_a_fail", 2, (1, 7)),
            ("no_reason", 1, (6,)),
        ]
        assert reasons.rows_read == 9
        assert list(reasons.dropped_counts()) == [why for why in DROP_REASONS if why != "unknown_mission"]
        (warning,) = reasons.warnings
        assert "dates or truth values (rows 8, 9); format the column as text" in warning

    def test_only_the_first_row_numbers_are_kept_and_all_rows_counted(self, book: Path) -> None:
        reasons = load_rows(book, *[row(f"QC-{i}", flag=1) for i in range(50)])
        (dropped,) = reasons.dropped
        assert (dropped.count, dropped.rows) == (50, tuple(range(1, 21)))

    def test_a_number_beyond_fifteen_digits_is_kept_and_warned_of(self, book: Path) -> None:
        reasons = load_rows(book, row("QC-1"), row(1234567890123456789))
        assert len(reasons.by_ticket) == 2
        assert all(group_id.isdigit() or group_id == "QC-1" for group_id, _ in reasons.by_ticket)
        (warning,) = reasons.warnings
        assert str(book) in warning
        assert "more than 15 digits" in warning
        assert "(rows 2)" in warning

    def test_a_workbook_without_any_fail_is_warned_of(self, book: Path) -> None:
        reasons = load_rows(book, row("QC-1", flag=1))
        assert reasons.by_ticket == {}
        assert "no row is a fail with a reason; check fail_reasons.flag_column" in reasons.warnings[0]

    def test_leading_empty_rows_and_columns_do_not_shift_anything(self, book: Path) -> None:
        reasons = load_rows(
            book, [None] * 7, [None] * 7, row(None), row("QC-1"), mission_column=2, group_id_column=0
        )
        assert reasons.by_ticket == {("QC-1", MISSION): ("松动",)}
        assert reasons.dropped[0].rows == (3,)
        shifted = [[None, *row("QC-1")], [None, *row("QC-2")]]
        write_book(book, shifted)
        settings = FailReasonSettings(group_id_column=1, mission_column=3, reason_column=6, flag_column=7)
        assert len(load_fail_reasons(book, settings).by_ticket) == 2

    def test_short_rows_count_as_empty_cells(self, book: Path) -> None:
        reasons = load_rows(book, ["QC-1"], ["QC-2", "x", MISSION], row("QC-3"))
        assert reasons.dropped_counts() == {"no_mission": 1, "not_a_fail": 1}
        assert list(reasons.by_ticket) == [("QC-3", MISSION)]

    def test_missions_are_matched_in_any_unicode_form(self, book: Path) -> None:
        reasons = load_rows(book, row("1", mission=unicodedata.normalize("NFD", "é任务") + "\u3000"))
        assert list(reasons.by_ticket) == [("1", "é任务")]


class TestMissions:
    def test_an_alias_stands_for_its_mission_and_unknown_ones_are_dropped(self, book: Path) -> None:
        write_book(
            book,
            [
                row("1", "BBU线缆布放要求"),
                row("2", "BBU线缆布放"),
                row("3", "没有的任务"),
                row("4", "RRU线缆"),
            ],
        )
        reasons = load_fail_reasons(book, missions=load_missions())
        assert set(reasons.by_ticket) == {("1", "BBU线缆布放"), ("2", "BBU线缆布放"), ("4", "RRU线缆")}
        assert reasons.dropped_counts() == {"unknown_mission": 1}
        assert (
            "unknown missions '没有的任务'; correct the names or add them as aliases" in reasons.warnings[0]
        )

    def test_without_a_mission_table_any_name_is_taken(self, book: Path) -> None:
        assert list(load_rows(book, row("1", "没有的任务")).by_ticket) == [("1", "没有的任务")]

    def test_only_bbu_missions_have_a_sheet(self) -> None:
        assert {"bbu"} == SHEET_DATASETS


class TestHeader:
    NAMES = FailReasonSettings(
        header=True, group_id_column="工单号", mission_column="任务", reason_column="原因", flag_column="标记"
    )

    def test_columns_are_found_by_name_in_any_order(self, book: Path) -> None:
        write_book(
            book,
            [
                [None] * 4,
                ["标记", " 原因\u3000", "工单号", "任务"],
                [2, "松动", 12.0, MISSION],
                [1, "x", 13, MISSION],
            ],
        )
        reasons = load_fail_reasons(book, self.NAMES)
        assert reasons.by_ticket == {("12", MISSION): ("松动",)}
        assert reasons.rows_read == 2
        assert reasons.dropped[0].rows == (4,)

    def test_numbers_and_names_may_be_mixed(self, book: Path) -> None:
        write_book(book, [["工单号", "任务", "原因", ""], ["1", MISSION, "松动", 2]])
        assert load_fail_reasons(book, self.NAMES.model_copy(update={"flag_column": 3})).by_ticket

    def test_a_name_that_is_missing_is_an_error_that_lists_the_header(self, book: Path) -> None:
        write_book(book, [["标记", "", "工单", "任务"], [2, "松动", "1", MISSION]])
        with pytest.raises(WorkbookError) as caught:
            load_fail_reasons(book, self.NAMES)
        for part in (str(book), "'工单号'", "fail_reasons.group_id_column", "'标记', '工单', '任务'"):
            assert part in str(caught.value)

    def test_a_name_that_stands_twice_is_an_error(self, book: Path) -> None:
        write_book(book, [["工单号", "任务", "原因", "标记", "原因"], ["1", MISSION, "a", 2, "b"]])
        with pytest.raises(WorkbookError, match="2 columns '原因'"):
            load_fail_reasons(book, self.NAMES)

    def test_a_header_without_rows_gives_no_reasons_and_a_warning(self, book: Path) -> None:
        write_book(book, [["工单号", "任务", "原因", "标记"]])
        reasons = load_fail_reasons(book, self.NAMES)
        assert (reasons.by_ticket, reasons.rows_read, len(reasons.warnings)) == ({}, 0, 1)


class TestSheets:
    def test_the_first_sheet_is_read_unless_another_is_named(self, book: Path) -> None:
        WRITERS[book.suffix[1:]](book, {"一": [row("1")], "二": [row("2")]})
        assert list(load_fail_reasons(book).by_ticket) == [("1", MISSION)]
        assert list(load_fail_reasons(book, FailReasonSettings(sheet="二")).by_ticket) == [("2", MISSION)]

    def test_a_sheet_that_is_missing_is_an_error_that_lists_the_sheets(self, book: Path) -> None:
        WRITERS[book.suffix[1:]](book, {"一": [row("1")], "二": [row("2")]})
        with pytest.raises(
            WorkbookError, match=r"has no sheet '三'; it has '一', '二'. Correct fail_reasons.sheet"
        ):
            load_fail_reasons(book, FailReasonSettings(sheet="三"))

    def test_a_chart_sheet_in_front_is_passed_over(self, tmp_path: Path) -> None:
        book = xlsxwriter.Workbook(str(tmp_path / "b.xlsx"))
        chartsheet = book.add_chartsheet("图")
        sheet = book.add_worksheet("表")
        sheet.write_row(0, 0, ["1", "", MISSION, "", "", "松动", 2])
        chart = book.add_chart({"type": "line"})
        chart.add_series({"values": "=表!$G$1:$G$1"})
        chartsheet.set_chart(chart)
        book.close()
        assert load_fail_reasons(tmp_path / "b.xlsx").by_ticket

    def test_an_empty_sheet_is_an_error(self, book: Path) -> None:
        write_book(book, [])
        with pytest.raises(WorkbookError, match=r"is empty; correct fail_reasons\.sheet"):
            load_fail_reasons(book)

    def test_columns_that_no_row_has_are_an_error(self, book: Path) -> None:
        write_book(book, [["QC-1", "x", MISSION, "", "", "松动"], ["QC-2"]])
        with pytest.raises(WorkbookError) as caught:
            load_fail_reasons(book)
        for part in (str(book), "6 columns", "column 6 (fail_reasons.flag_column)", "Correct the setting"):
            assert part in str(caught.value)


class TestCells:
    def test_merged_cells_hold_for_all_their_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "b.xlsx"
        book = xlsxwriter.Workbook(str(path))
        sheet = book.add_worksheet()
        for number, reason in enumerate(["a", "b", "c"]):
            sheet.write_row(number, 0, row("x", reason=reason))
        sheet.merge_range(0, 0, 1, 0, "QC-1")
        sheet.merge_range(0, 2, 2, 2, MISSION)
        sheet.merge_range(3, 0, 3, 6, "合计")
        book.close()
        assert load_fail_reasons(path).by_ticket == {("QC-1", MISSION): ("a", "b"), ("x", MISSION): ("c",)}

    def test_merged_cells_of_old_workbooks_hold_too(self, tmp_path: Path) -> None:
        path = tmp_path / "b.xls"
        book = xlwt.Workbook(encoding="utf-8")
        sheet = book.add_sheet("s")
        sheet.write_merge(0, 1, 0, 0, "QC-1")
        for number, reason in enumerate(["a", "b"]):
            for column, value in ((2, MISSION), (5, reason), (6, 2)):
                sheet.write(number, column, value)
        book.save(str(path))
        assert load_fail_reasons(path).by_ticket == {("QC-1", MISSION): ("a", "b")}

    def test_errors_and_formulas_without_a_value_are_empty_cells(self, tmp_path: Path) -> None:
        path = tmp_path / "b.xlsx"
        book = xlsxwriter.Workbook(str(path))
        sheet = book.add_worksheet()
        for number, value in enumerate(["QC-1", "", "#N/A", "#DIV/0!"]):
            sheet.write_row(number, 0, row("x"))
            sheet.write_formula(number, 0, "=Z1", None, value)
        book.close()
        reasons = load_fail_reasons(path)
        assert list(reasons.by_ticket) == [("QC-1", MISSION)]
        assert reasons.dropped_counts() == {"no_group_id": 3}

    def test_far_away_blank_formatting_costs_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "b.xlsx"
        book = xlsxwriter.Workbook(str(path))
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, row("QC-1"))
        sheet.write_blank(1_048_575, 16_383, None, book.add_format({"bold": True}))
        book.close()
        assert load_fail_reasons(path).rows_read == 1


def encrypted_ods(path: Path) -> bytes:
    write_book(path, [row("1")])
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename == "META-INF/manifest.xml":
                entry = b'manifest:full-path="content.xml" manifest:media-type="text/xml"'
                assert entry in content
                content = content.replace(
                    entry + b"/>", entry + b"><manifest:encryption-data/></manifest:file-entry>"
                )
            new.writestr(item, content)
    return packed.getvalue()


def encrypted_xls(path: Path) -> bytes:
    """The record behind the first BOF becomes FILEPASS, the mark of an encrypted stream."""
    write_book(path, [row("1")])
    data = bytearray(path.read_bytes())
    start = data.index(struct.pack("<HH", 0x0809, 16)) + 20
    data[start : start + 2] = struct.pack("<H", 0x2F)
    return bytes(data)


class TestFiles:
    def test_the_content_counts_and_not_the_suffix(self, book: Path, tmp_path: Path) -> None:
        write_book(book, [row("QC-1")])
        for name in ("a.xlsx", "a.xls", "a.ods", "a.dat", "a", "a.XLSX"):
            shutil.copy(book, tmp_path / name)
            assert load_fail_reasons(tmp_path / name).by_ticket

    def test_a_path_may_be_text(self, book: Path) -> None:
        write_book(book, [row("QC-1")])
        assert load_fail_reasons(str(book)).by_ticket

    @pytest.mark.parametrize("name", ["missing.xlsx", "folder", "folder.xlsx"])
    def test_what_cannot_be_read_is_an_error_that_names_the_setting(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder.xlsx").mkdir()
        with pytest.raises(WorkbookError, match=rf"{name} cannot be read: .*; correct fail_reasons.workbook"):
            load_fail_reasons(tmp_path / name)

    @pytest.mark.parametrize("name", ["~$复核.xlsx", ".~lock.复核.ods#"])
    def test_lock_files_are_refused_by_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\x05user")
        with pytest.raises(WorkbookError, match="give the workbook itself"):
            load_fail_reasons(tmp_path / name)

    @pytest.mark.parametrize("suffix", ["xlsx", "xls", "ods", "csv", "dat"])
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"QC-1,x,y\n",
            b"<html><table></table></html>",
            b"PK\x03\x04" + b"0" * 99,
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(999),
        ],
    )
    def test_what_is_no_workbook_is_an_error(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        (tmp_path / f"b.{suffix}").write_bytes(content)
        with pytest.raises(WorkbookError, match=rf"b.{suffix} is no readable xlsx, xls or ods workbook"):
            load_fail_reasons(tmp_path / f"b.{suffix}")

    def test_a_cut_workbook_is_an_error(self, book: Path) -> None:
        write_book(book, [row(f"QC-{i}", reason="松动" * 50) for i in range(300)])
        data = book.read_bytes()
        for share in (0.2, 0.5, 0.9):
            book.write_bytes(data[: int(len(data) * share)])
            with pytest.raises(WorkbookError, match="is no readable"):
                load_fail_reasons(book)

    def test_a_workbook_that_trips_its_reader_is_an_error(self, tmp_path: Path) -> None:
        path = write_book(tmp_path / "b.xls", [row("QC-1")])
        data = bytearray(path.read_bytes())
        # The BOUNDSHEET record now says that the sheet begins behind the end of the file.
        start = data.index(struct.pack("<H", 0x85), 1024) + 4
        data[start : start + 4] = struct.pack("<I", 0x7FFFFF)
        path.write_bytes(data)
        with pytest.raises(WorkbookError, match=r"is no readable .*out of range.*save it as xlsx"):
            load_fail_reasons(path)

    @pytest.mark.parametrize(("suffix", "encrypt"), [("ods", encrypted_ods), ("xls", encrypted_xls)])
    def test_a_password_is_named_as_the_cause(self, tmp_path: Path, suffix: str, encrypt) -> None:
        path = tmp_path / f"b.{suffix}"
        path.write_bytes(encrypt(path))
        with pytest.raises(WorkbookError, match="protected by a password; save a copy without one"):
            load_fail_reasons(path)


PASS = GroupRecord("QC-1", MISSION, "pass", ("1.jpg",), ("无关图片",))
REASONS = FailReasons(
    {("QC-1", MISSION): ("缺失", "松动"), ("QC-9", MISSION): ("a",), ("QC-8", "RRU线缆"): ("b",)}
)


class TestJoining:
    def test_fail_records_get_their_reasons_and_pass_records_none(self) -> None:
        fail = replace(PASS, label="fail")
        unknown = replace(fail, group_id="QC-7")
        joined = list(join_fail_reasons([unknown, PASS, fail], REASONS))
        assert joined == [
            replace(unknown, fail_reasons=()),
            PASS,
            replace(fail, fail_reasons=("缺失", "松动")),
        ]
        assert joined[0].to_mapping()["gt_fail_reason_text"] is None
        assert joined[0].to_mapping()["gt_fail_reason_texts"] == []
        assert "gt_fail_reason_text" not in joined[1].to_mapping()
        assert joined[2].to_mapping()["gt_fail_reason_text"] == "缺失 | 松动"

    def test_a_reason_of_another_mission_is_not_taken(self) -> None:
        (joined,) = join_fail_reasons([replace(PASS, label="fail", mission="BBU接地线检查")], REASONS)
        assert joined.fail_reasons == ()

    def test_unicode_forms_of_ids_and_missions_match(self) -> None:
        record = replace(PASS, label="fail", group_id=unicodedata.normalize("NFD", "é"))
        (joined,) = join_fail_reasons([record], FailReasons({("é", MISSION): ("a",)}))
        assert joined.fail_reasons == ("a",)
        assert joined.group_id == record.group_id

    def test_the_report_names_what_matched_and_what_is_left_over(self) -> None:
        records = [
            replace(PASS, label="fail", group_id="QC-7"),
            replace(PASS, label="fail"),
            replace(PASS, group_id="QC-9"),
            replace(PASS, label="fail", mission="RRU线缆", group_id="QC-8"),
        ]
        report = match_report(records, REASONS, MISSION)
        assert (report.matched, report.unmatched, report.without_group) == (("QC-1",), ("QC-7",), ("QC-9",))

"""One sheet of a spreadsheet (xlsx, xls, ods) as plain rows."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from pathlib import Path
from typing import Final, TypeVar

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum

from stage_a_pipeline.errors import WorkbookError
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import read_bytes

Cell = str | int | float | bool | date | time | timedelta
"""A cell's value. Empty cells, error values and formulas without a value are empty text."""

_LOCK_PREFIXES: Final = ("~$", ".~lock.")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet's cells from its first row and column on; all rows are equally wide."""

    name: str
    rows: list[list[Cell]]

    @property
    def width(self) -> int:
        """Columns of the widest row that holds anything."""
        return len(self.rows[0]) if self.rows else 0


def read_sheet(path: Place, name: str | None = None) -> Sheet:
    """The named sheet, or the first; every cell of a merged column range has the value of its top.

    The content decides what kind of file it is, not its suffix. WorkbookError names file, cause and
    remedy.
    """
    if path.name.startswith(_LOCK_PREFIXES):
        raise WorkbookError(
            f"{path} is the mark that an office program leaves beside an open workbook, not a workbook; "
            "give the workbook itself"
        )
    return _guarded(path, lambda: _read(_open(path), path, name))


def _open(path: Place) -> CalamineWorkbook:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise WorkbookError(
            f"workbook {path} cannot be read: {error.strerror or error}; "
            "correct fail_reasons.workbook (STAGE_A_WORKBOOK) or unset it"
        ) from error
    if not isinstance(path, Path):
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    try:
        # By its path the reader goes by the suffix and can say what is wrong, by its bytes it cannot.
        return CalamineWorkbook.from_path(path)
    except PasswordError:
        raise
    except CalamineError as error:
        try:
            return CalamineWorkbook.from_filelike(io.BytesIO(data))
        except CalamineError:
            raise error from None


def _guarded(path: Place, read: Callable[[], T]) -> T:
    try:
        return read()
    except PasswordError as error:
        raise WorkbookError(
            f"workbook {path} is protected by a password; save a copy without one and give that"
        ) from error
    except CalamineError as error:
        raise _not_a_workbook(path, error) from error
    except BaseException as error:
        # The reader's own assertions, on a damaged file, come as a class that cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise _not_a_workbook(path, error) from None


def _not_a_workbook(path: Place, error: BaseException) -> WorkbookError:
    return WorkbookError(
        f"{path} is no readable xlsx, xls or ods workbook ({error}); open it in an office program "
        "and save it as xlsx"
    )


def _read(workbook: CalamineWorkbook, path: Place, name: str | None) -> Sheet:
    names = [sheet.name for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    if not names:
        raise WorkbookError(f"workbook {path} has no sheet with cells; give another workbook")
    by_name = {_normal(one): one for one in names}
    if name is not None and _normal(name) not in by_name:
        raise WorkbookError(
            f"workbook {path} has no sheet {name!r}; it has {', '.join(map(repr, names))}. "
            "Correct fail_reasons.sheet"
        )
    sheet = workbook.get_sheet_by_name(names[0] if name is None else by_name[_normal(name)])
    rows = sheet.to_python(skip_empty_area=False)
    _fill_merged(sheet, rows)
    return Sheet(sheet.name, rows)


def _fill_merged(sheet: CalamineSheet, rows: list[list[Cell]]) -> None:
    """An office program keeps the value of merged cells in the first one only. ods tells no ranges."""
    for (top, column), (bottom, _) in sheet.merged_cell_ranges or ():
        if top < len(rows) and column < len(rows[top]):
            for row in rows[top + 1 : bottom + 1]:
                row[column] = rows[top][column]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()

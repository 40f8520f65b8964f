"""Templates to pages, and the files beside them that every report has."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from stage_a_pipeline.report.data_files import write_script
from stage_a_pipeline.report.interface import Language, interface_texts, texts_in
from stage_a_pipeline.storage import atomic_write, ensure_folder

STATIC: Final = "static"
_PACKAGE: Final = "stage_a_pipeline.report"


def render_page(path: Path, template: str, *, language: Language, **content: Any) -> None:
    """Write a page of that template, in which everything but the template itself is escaped.

    Raises OutputError.
    """
    page = _environment(language).get_template(template).render(static=STATIC, language=language, **content)
    with atomic_write(path, "wb") as file:
        # Half a surrogate pair, from a file name that is not UTF-8, is no character that HTML could show.
        file.write(page.encode("utf-8", "replace"))


def write_static(folder: Path) -> None:
    """Style, scripts and words, which all pages share, into `static` below the folder. Raises OutputError."""
    target = ensure_folder(folder / STATIC)
    for packaged in files(_PACKAGE).joinpath(STATIC).iterdir():
        with atomic_write(target / packaged.name, "wb") as file:
            file.write(packaged.read_bytes())
    write_script(target / "texts.js", "texts", [interface_texts()])


def address(**wanted: str) -> str:
    """The part of a link that has the page of groups filtered so."""
    return f"#{urlencode(wanted, errors='replace')}"


# Templates are compiled once, not for every page.
@cache
def _environment(language: Language) -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "figure": _figure, "percent": _percent, "points": _points}
    environment.globals |= {**texts_in(language), "link": address}
    return environment


def _number(count: int) -> str:
    return f"{count:,}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.2f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _points(difference: float | None) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return "–" if difference is None else f"{100 * difference:+.1f}"

"""The report of many groups in a real browser: pages of twenty groups against long ones.

Photos are tiny and all different; summaries are those of composed scenes. Opening counts from the request to
the frame after the first group is there, filtering from the choice to the frame after the page shows it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.processes import resident_mib
from stage_a_pipeline.bench.scale import GROUP_SIZES, MISSION, workplace, write_tree
from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.jsonl import GroupCounts, Manifest, PhotoCounts, output_paths, publish
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import Group, GroupRecord
from stage_a_pipeline.report.mission import MissionReport, Report
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import atomic_write

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONG: Final = 1000
"""Groups on a page of the baseline."""
FIRST_PAGE_BAR, FILTER_BAR = 2.0, 0.2
"""Seconds that opening and filtering may take with 10,000 groups."""
_SCENES: Final = 500
_FILTERS: Final = (("label", "fail"), ("text", "0009"), ("text", "爱立信 完整"), ("category", "挡风板"))
_OPEN: Final = """() => new Promise((done) => {
  const look = () => document.querySelector('.group')
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now()))) : setTimeout(look, 2);
  look();
})"""
_FILTER: Final = """([name, value]) => new Promise((done) => {
  const field = document.querySelector(`[name=${name}]`);
  const begun = performance.now();
  field.value = value;
  field.dispatchEvent(new Event('input', { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
})"""
_READ: Final = "() => !/正在|reading/.test(document.getElementById('shown').textContent)"


@dataclass(frozen=True, slots=True)
class Looks:
    """Seconds in the browser: the first page, all data read, and the slowest of the filters."""

    first_page: float
    all_read: float
    filtering: float


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """What writing the report took, again with its thumbnails there, and how short and long pages look."""

    groups: int
    photos: int
    write_seconds: float
    rewrite_seconds: float
    peak_mib: float
    paged: Looks
    long: Looks

    @property
    def within_bars(self) -> bool:
        """Whether the pages are as quick as they have to be."""
        return self.paged.first_page < FIRST_PAGE_BAR and self.paged.filtering < FILTER_BAR


def measure_report(groups: int, *, seed: int, folder: Path | None = None) -> ReportFigures:
    """Write the report of so many groups below `folder` or a temporary one, and look at it.

    ConfigurationError without a browser or playwright, OutputError.
    """
    browser = find_browser()
    with workplace(folder) as place:
        settings = _delivered(place, groups, seed)
        report, written = _write(settings)
        _, rewritten = _write(settings)
        peak = resident_mib(os.getpid())
        page = report.index.with_name("groups.html")
        paged = _look(browser, page)
        _make_long(report.index.parent)
        return ReportFigures(
            report.groups, report.photos, written, rewritten, peak, paged, _look(browser, page)
        )


def find_browser() -> str:
    """The path of an installed browser. ConfigurationError without one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigurationError(
            f"no browser is installed (looked for {', '.join(BROWSERS)}); install chromium"
        )
    return found


def _delivered(place: Path, groups: int, seed: int) -> Settings:
    rng = Random(seed)
    # Sizes are drawn: enough photos for that many groups, and the rest is left out of the report.
    photos = round(1.1 * groups * sum(GROUP_SIZES) / len(GROUP_SIZES)) + 20
    write_tree(place / "in", photos, rng)
    tree = discover_groups(place / "in", MISSION).groups[:groups]
    records = list(_records(tree, rng))
    count = sum(len(group.images) for group in tree)
    manifest = Manifest(
        MISSION,
        GroupCounts(len(tree), 0, len(tree), 0),
        PhotoCounts(count, count, 0, count),
        fingerprint="0" * 64,
        prompt_hash="0" * 64,
        settings={},
        versions={},
    )
    publish(output_paths(place / "out", MISSION), records, (), manifest)
    return Settings.model_validate(
        {"discovery": {"input_root": place / "in"}, "output": {"output_dir": place / "out"}}
    )


def _records(tree: tuple[Group, ...], rng: Random) -> Iterator[GroupRecord]:
    mission = load_missions()[MISSION]
    summaries = [compose_scene(rng, mission).summary for _ in range(_SCENES)]
    for group in tree:
        names = tuple(image.name for image in group.images)
        reasons = ("挡风板方向错误",) if group.label == "fail" else None
        chosen = tuple(rng.choice(summaries) for _ in names)
        yield GroupRecord(group.group_id, MISSION, group.label, names, chosen, reasons)


def _write(settings: Settings) -> tuple[Report, float]:
    started = time.perf_counter()
    tree = discover_groups(settings.require_input_root(), MISSION).groups
    report = MissionReport(MISSION, settings).write(tree, ON_DISK, run_id="bench")
    return report, time.perf_counter() - started


def _make_long(folder: Path) -> None:
    (index,) = folder.glob("data/*/index.js")
    told = json.loads(index.read_text("utf-8").removeprefix("report.describe(").removesuffix(");\n"))
    index.write_text(f"report.describe({json.dumps(told | {'per_page': LONG})});\n", "utf-8")


def _look(browser: str, page: Path) -> Looks:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ConfigurationError("playwright is missing; pip install '.[dev]'") from None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        looked_at = chromium.new_page(viewport={"width": 1600, "height": 1000})
        looked_at.set_default_timeout(600_000)
        started = time.perf_counter()
        looked_at.goto(page.absolute().as_uri(), wait_until="commit")
        first = looked_at.evaluate(_OPEN) / 1000
        # The page allows no script but its own, which rules out playwright's own way of waiting.
        while not looked_at.evaluate(_READ):
            time.sleep(0.02)
        read = time.perf_counter() - started
        filtering = max(_filter(looked_at, *chosen) for chosen in _FILTERS)
        chromium.close()
    return Looks(first, read, filtering)


def _filter(page: Any, name: str, value: str) -> float:
    seconds: float = page.evaluate(_FILTER, [name, value]) / 1000
    page.evaluate(_FILTER, [name, ""])
    return seconds


def print_report_figures(figures: ReportFigures, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    table = Table("seconds", "pages of 20", f"pages of {LONG}", "ratio")
    for name in ("first_page", "all_read", "filtering"):
        paged, whole = getattr(figures.paged, name), getattr(figures.long, name)
        table.add_row(name.replace("_", " "), f"{paged:.3f}", f"{whole:.3f}", f"{whole / paged:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{figures.groups} groups, {figures.photos} photos; written in {figures.write_seconds:.1f} s, again "
        f"in {figures.rewrite_seconds:.1f} s, peak {figures.peak_mib:.0f} MiB; bars: first page "
        f"{FIRST_PAGE_BAR} s, filtering {FILTER_BAR} s: {'met' if figures.within_bars else 'MISSED'}",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(asdict(figures), file, ensure_ascii=False, indent=2)
            file.write("\n")

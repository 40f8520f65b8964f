"""Delivered missions of any content, with their photos, and a real browser to look at them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stage_a_pipeline.jsonl import GroupCounts, Manifest, PhotoCounts, output_paths, publish
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Label, Rejection
from stage_a_pipeline.report.mission import MissionReport, Report
from stage_a_pipeline.settings import Settings
from tests.conftest import LABEL_FOLDERS, MISSION, write_photo

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Shot:
    """A photo as a test tells of it: its summary, or a rejection with its reason and detail."""

    name: str
    summary: str | None = None
    rejected: tuple[str, str] | None = None
    raw: str | None = None


@dataclass(frozen=True)
class Ticket:
    label: Label
    group_id: str
    shots: Sequence[Shot]
    reasons: tuple[str, ...] | None = None
    folder: str | None = None


def deliver(
    base: Path,
    tickets: Sequence[Ticket],
    *,
    mission: str = MISSION,
    photo: Callable[[Path, int], object] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Settings:
    """Write the photos below `base/in` and what a run would deliver below `base/out`."""
    root = base / "in"
    groups, records, rejections = [], [], []
    for number, ticket in enumerate(tickets):
        folder = root / mission / LABEL_FOLDERS[ticket.label] / (ticket.folder or ticket.group_id)
        images = tuple(Image(folder, shot.name) for shot in ticket.shots)
        groups.append(Group(mission, ticket.label, ticket.group_id, folder, images))
        for place, image in enumerate(images):
            if photo is None:
                write_photo(image.path, seed=number * 10 + place)
            else:
                photo(image.path, number * 10 + place)
        lost = [
            Rejection(ImageRef(number, place, groups[-1]), "read", *shot.rejected, raw_text=shot.raw)
            for place, shot in enumerate(ticket.shots, start=1)
            if shot.rejected is not None
        ]
        rejections += lost
        if not lost:
            names = tuple(shot.name for shot in ticket.shots)
            summaries = tuple(shot.summary for shot in ticket.shots)
            records.append(
                GroupRecord(ticket.group_id, mission, ticket.label, names, summaries, ticket.reasons)
            )
    count = sum(len(ticket.shots) for ticket in tickets)
    written = sum(len(record.images) for record in records)
    manifest = Manifest(
        mission,
        GroupCounts(len(tickets), 0, len(records), len(tickets) - len(records)),
        PhotoCounts(count, count - len(rejections), len(rejections), written),
        fingerprint="f" * 64,
        prompt_hash="p" * 64,
        settings={"engine": {"checkpoint": "/secret/place/qwen", "dtype": "auto"}},
        versions={"torch": "2.13.0"},
    )
    publish(output_paths(base / "out", mission), records, rejections, manifest)
    given = {"discovery": {"input_root": root}, "output": {"output_dir": base / "out"}}
    return Settings.model_validate({**given, **(settings or {})})


def tree_of(settings: Settings, mission: str = MISSION) -> tuple[Group, ...]:
    from stage_a_pipeline.discovery import discover_groups

    return discover_groups(settings.require_input_root(), mission).groups


def write_report(settings: Settings, mission: str = MISSION, **figures: float) -> Report:
    told = MissionReport(mission, settings)
    return told.write(tree_of(settings, mission), ON_DISK, run_id="test", figures=figures)


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS)
        yield started
        started.close()


class Watched:
    """A page with all that it asked for and complained of."""

    def __init__(self, page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path, fragment: str = "") -> None:
        self.page.goto("about:blank")
        self.page.goto(path.absolute().as_uri() + fragment)


@pytest.fixture
def watched(chromium) -> Iterator[Watched]:
    context = chromium.new_context(viewport={"width": 1600, "height": 1000}, locale="zh-CN")
    yield Watched(context.new_page())
    context.close()

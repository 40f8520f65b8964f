"""The pages of a comparison of two runs: an overview, and the changed groups of each mission."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, get_args

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.photo_source import PhotoSource
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Group
from stage_a_pipeline.report.change_items import ChangeItem, ItemKind, change_items
from stage_a_pipeline.report.change_scripts import ChangeScripts, FindPhotos
from stage_a_pipeline.report.data_files import digest_of
from stage_a_pipeline.report.frequencies import SIGNIFICANCE
from stage_a_pipeline.report.groups import GroupFolders
from stage_a_pipeline.report.pages import render_page, write_static
from stage_a_pipeline.report.thumbnails import FOLDER, ThumbnailRecipe, Thumbnails
from stage_a_pipeline.run_comparison.comparison import MissionComparison, RunComparison
from stage_a_pipeline.run_comparison.frequency_shifts import LEAST_SHIFT, FrequencyShift
from stage_a_pipeline.run_comparison.setting_changes import SettingChange
from stage_a_pipeline.settings_report import ReportSettings
from stage_a_pipeline.storage import ensure_folder, output_errors, unfinished_folder

DATA: Final = "changes"
"""The folder that tells such a page from anything else."""


_HASH: Final = 12
"""Characters of a hash that are shown."""


@dataclass(frozen=True, slots=True)
class ComparisonPhotos:
    """Where photos are: the groups of a mission's tree, and what reads them."""

    source: PhotoSource
    tree: Callable[[str], Sequence[Group]]


@dataclass(frozen=True, slots=True)
class _Names:
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _MissionPage:
    """What the overview says of a mission; `page` shows its groups."""

    found: MissionComparison
    page: str
    script: str
    kinds: Mapping[ItemKind, int]
    settings: Sequence[SettingChange]

    @property
    def mission(self) -> str:
        return self.found.mission

    @property
    def marked(self) -> list[FrequencyShift]:
        return [shift for shift in self.found.frequencies if shift.matters]

    @property
    def same_fingerprint(self) -> bool:
        return not self._changed("fingerprint")

    @property
    def shaping(self) -> bool:
        """Whether a setting or prompt tells why the fingerprints differ."""
        return self._changed("engine.", "prompts.", "prompt_hash")

    def _changed(self, *starts: str) -> bool:
        changes = self.found.settings.changes if self.found.settings is not None else ()
        return any(change.name.startswith(starts) for change in changes)


def write_comparison_pages(
    folder: Path,
    comparison: RunComparison,
    settings: ReportSettings,
    photos: ComparisonPhotos | None = None,
) -> Path:
    """Write or replace the pages in a folder that is empty, new, or holds those of an earlier comparison.

    Returns the first page. Thumbnails are made where there are `photos`, by the rules of the report. Pages
    are replaced last, so that a killed run leaves the old ones whole. OutputError for a folder that
    holds anything else or cannot be written, DiscoveryError for a mission without photos, StoreError.
    """
    _require_own(folder)
    ensure_folder(folder / DATA)
    write_static(folder)
    with _thumbnails(folder, settings, photos) as thumbnails:
        data, pages = _write_scripts(folder, comparison, settings, photos, thumbnails)
        _write_pages(folder, comparison, settings, data, pages)
        if thumbnails is not None:
            thumbnails.prune()
    _prune(folder, data, pages)
    return folder / "index.html"


def distinct_names(before: Place, after: Place) -> tuple[str, str]:
    """Two places without the folders that both are in, which are nobody's business elsewhere."""
    return _without_common(str(before), str(after))


def _require_own(folder: Path) -> None:
    with output_errors(folder):
        others = folder.exists() and not (folder / DATA).is_dir() and any(folder.iterdir())
    if others:
        raise OutputError(f"folder {folder} holds other things; give an empty or new one for the pages")


def _thumbnails(
    folder: Path, settings: ReportSettings, photos: ComparisonPhotos | None
) -> AbstractContextManager[Thumbnails | None]:
    if photos is None or not settings.thumbnails:
        return nullcontext()
    recipe = ThumbnailRecipe.of(settings)
    return Thumbnails(folder / FOLDER, recipe, photos.source, workers=settings.workers)


def _write_scripts(
    folder: Path,
    comparison: RunComparison,
    settings: ReportSettings,
    photos: ComparisonPhotos | None,
    thumbnails: Thumbnails | None,
) -> tuple[str, list[_MissionPage]]:
    """The folder of scripts, named by their content, and what pages need to know of each mission."""
    pages = []
    with unfinished_folder(folder / f".{DATA}") as unfinished:
        for number, found in enumerate(comparison.missions, start=1):
            find = _finder(found.mission, photos)
            scripts = ChangeScripts(unfinished, str(number), thumbnails, find)
            script = scripts.write(change_items(found), per_page=settings.groups_per_page)
            pages.append(
                _MissionPage(found, f"changes-{number}.html", script, scripts.kinds, _shown_settings(found))
            )
        name = digest_of(unfinished)
        target = folder / DATA / name
        with output_errors(target):
            if not target.exists():
                unfinished.rename(target)
    return f"{DATA}/{name}", pages


def _write_pages(
    folder: Path,
    comparison: RunComparison,
    settings: ReportSettings,
    data: str,
    pages: Sequence[_MissionPage],
) -> None:
    names = _Names(*distinct_names(comparison.before, comparison.after))
    for one in pages:
        render_page(
            folder / one.page,
            "changes.html.jinja",
            language=settings.language,
            names=names,
            pages=pages,
            page=one.page,
            mission=one.mission,
            kinds=[kind for kind in get_args(ItemKind) if one.kinds[kind]],
            data=f"{data}/{one.script}",
        )
    render_page(
        folder / "index.html",
        "comparison_overview.html.jinja",
        language=settings.language,
        names=names,
        pages=pages,
        page="overview",
        only_before=comparison.only_before,
        only_after=comparison.only_after,
        least=LEAST_SHIFT,
        significance=SIGNIFICANCE,
    )


def _finder(mission: str, photos: ComparisonPhotos | None) -> FindPhotos:
    folders = GroupFolders(photos.tree(mission) if photos is not None else ())

    def find(item: ChangeItem) -> Mapping[str, Place]:
        change = item.change
        labels = [item.label] if change is None else [change.label_after, change.label_before]
        lost = set(change.photos_lost) if change is not None else set()
        for label in dict.fromkeys(labels):
            group = folders.take(label, item.group_id, tuple(set(item.photo_names) - lost))
            if group is not None:
                return {image.name: image.path for image in group.images}
        return {}

    return find


def _shown_settings(found: MissionComparison) -> list[SettingChange]:
    """What was set otherwise, without where things and servers are."""
    changes = found.settings.changes if found.settings is not None else ()
    shown = []
    for change in changes:
        before, after = change.before, change.after
        if "://" in f"{before}{after}":
            continue
        if change.name in ("fingerprint", "prompt_hash"):
            before, after = (before or "")[:_HASH], (after or "")[:_HASH]
        elif any(value is not None and value.startswith(("/", "~")) for value in (before, after)):
            before, after = _without_common(before or "", after or "")
        shown.append(SettingChange(change.name, before, after))
    return shown


def _without_common(before: str, after: str) -> tuple[str, str]:
    first, second = PurePosixPath(before).parts, PurePosixPath(after).parts
    common = 0
    while common < min(len(first), len(second)) - 1 and first[common] == second[common]:
        common += 1
    if not common:
        # Nothing in common but the disk: no more than the last names.
        return PurePosixPath(before).name, PurePosixPath(after).name
    return "/".join(first[common:]), "/".join(second[common:])


def _prune(folder: Path, data: str, pages: Sequence[_MissionPage]) -> None:
    """Remove what an earlier comparison has left."""
    kept = {one.page for one in pages}
    with output_errors(folder):
        for old in (folder / DATA).iterdir():
            if old.name != PurePosixPath(data).name:
                shutil.rmtree(old)
        for page in folder.glob("changes-*.html"):
            if page.name not in kept:
                page.unlink()

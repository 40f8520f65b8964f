"""The report of one mission, from its delivered files and its photos to a folder of pages."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import Manifest, OutputPaths, output_paths, read_manifest, read_records
from stage_a_pipeline.photo_source import PhotoSource
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Group
from stage_a_pipeline.rejected_lines import read_rejected_lines
from stage_a_pipeline.report.data_files import GroupScripts, digest_of, write_script
from stage_a_pipeline.report.frequencies import LEAST_DIFFERENCE, SIGNIFICANCE
from stage_a_pipeline.report.groups import ReportGroup, report_groups
from stage_a_pipeline.report.interface import Language
from stage_a_pipeline.report.pages import render_page, write_static
from stage_a_pipeline.report.statistics import Statistics, StatisticsCounter
from stage_a_pipeline.report.thumbnails import FOLDER, ThumbnailRecipe, Thumbnails
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.settings_layers import path_settings
from stage_a_pipeline.storage import (
    child_path,
    claim_output,
    ensure_folder,
    exists,
    open_to_read,
    output_errors,
    unfinished_folder,
)
from stage_a_pipeline.vocabulary import IRRELEVANT

DATA: Final = "data"
_INDEX: Final = "index.js"
FIGURES: Final = (
    "images_per_second", "inferred", "reused", "retried", "seconds", "device_seconds", "waiting_seconds",
    "batch_fill", "tokens_per_second", "generated_tokens",
)  # fmt: skip
"""The figures of a run that the overview shows, in this order."""
COUNTS: Final = ("inferred", "reused", "retried", "generated_tokens")
"""Those that a mission has of its own where its photos were asked together with those of others."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the first page, and how much it tells of."""

    index: Path
    groups: int
    photos: int
    photos_without_thumbnail: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What a reader should know first: a text of the interface, and the figures in it."""

    key: str
    figures: Mapping[str, object] = field(default_factory=dict)


class MissionReport:
    """The report of one mission: `folder` is its own, which need not be there yet."""

    def __init__(self, mission: str, settings: Settings) -> None:
        self._mission = mission
        self._paths = output_paths(settings.output.output_dir, mission)
        self._settings = settings.report
        self._locks = settings.output.work_dir / "locks" / "report"
        self.folder = child_path(settings.report_dir, mission)

    @property
    def delivered(self) -> bool:
        """Whether there is anything to report."""
        return exists(self._paths.jsonl)

    def write(
        self,
        tree: Iterable[Group],
        photos: PhotoSource,
        *,
        run_id: str,
        figures: Mapping[str, float] | None = None,
    ) -> Report:
        """Write or replace the report of what is delivered; `tree` are the groups with their folders.

        Pages are replaced last, so that a killed run leaves the old report whole. InputError where
        nothing is delivered, RecordError for a delivered file that is broken, LockedError while another
        run writes it, OutputError, StoreError.
        """
        if not self.delivered:
            raise InputError(f"{self._paths.jsonl} does not exist; run mission {self._mission} first")
        told = {"run_id": run_id, "purpose": "write the report", "what": "the report of mission {}"}
        with claim_output(self._locks, self._mission, **told):
            return self._write(tree, photos, figures or {})

    def _write(self, tree: Iterable[Group], photos: PhotoSource, figures: Mapping[str, float]) -> Report:
        manifest = read_manifest(self._paths.manifest)
        ensure_folder(self.folder)
        counter = StatisticsCounter()
        with self._thumbnails(photos) as thumbnails:
            data, scripts = self._write_data(tree, counter, thumbnails)
            missing = scripts.photos_without_thumbnail
            notices = [*_differences(self._paths, manifest), *_gone(missing)]
            write_static(self.folder)
            self._write_pages(data, manifest, counter.result(), notices, figures)
            if thumbnails is not None:
                thumbnails.prune()
        self._prune_data(data)
        return Report(self.folder / "index.html", scripts.groups, scripts.photos, missing)

    def _groups(self, tree: Iterable[Group]) -> Iterator[ReportGroup]:
        lines = read_rejected_lines(self._paths.rejected) if exists(self._paths.rejected) else ()
        return report_groups(read_records(self._paths.jsonl), lines, tree)

    def _thumbnails(self, photos: PhotoSource) -> AbstractContextManager[Thumbnails | None]:
        if not self._settings.thumbnails:
            return nullcontext()
        recipe = ThumbnailRecipe.of(self._settings)
        return Thumbnails(self.folder / FOLDER, recipe, photos, workers=self._settings.workers)

    def _write_data(
        self, tree: Iterable[Group], counter: StatisticsCounter, thumbnails: Thumbnails | None
    ) -> tuple[str, GroupScripts]:
        """The data's folder below the report's, named by its content, so that pages never mix two reports."""
        with unfinished_folder(self.folder / f".{DATA}") as unfinished:
            scripts = GroupScripts(unfinished, thumbnails)
            scripts.write(counter.watch(self._groups(tree)))
            rejections = [f"{lost.stage}/{lost.reason}" for lost in counter.result().lost]
            write_script(unfinished / _INDEX, "describe", [self._description(scripts, rejections)])
            name = digest_of(unfinished)
            target = ensure_folder(self.folder / DATA) / name
            with output_errors(target):
                if not target.exists():
                    unfinished.rename(target)
        return f"{DATA}/{name}", scripts

    def _description(self, scripts: GroupScripts, rejections: Sequence[str]) -> Mapping[str, object]:
        return {
            "groups": scripts.groups,
            "per_page": self._settings.groups_per_page,
            "chunks": scripts.names,
            "facets": scripts.facets.to_json(),
            "rejections": rejections,
        }

    def _write_pages(
        self,
        data: str,
        manifest: Manifest,
        statistics: Statistics,
        notices: Sequence[Notice],
        figures: Mapping[str, float],
    ) -> None:
        language: Language = self._settings.language
        render_page(
            self.folder / "groups.html",
            "groups.html.jinja",
            language=language,
            mission=self._mission,
            page="groups",
            data=data,
        )
        render_page(
            self.folder / "index.html",
            "index.html.jinja",
            language=language,
            mission=self._mission,
            page="overview",
            counts=manifest.counts,
            photos=manifest.photos,
            irrelevant=sum(counts.irrelevant for counts in statistics.labels.values()),
            irrelevant_name=IRRELEVANT,
            statistics=statistics,
            lengths=statistics.lengths,
            marked=[row for row in statistics.frequencies if row.matters],
            least_difference=LEAST_DIFFERENCE,
            significance=SIGNIFICANCE,
            figures=_shown(figures),
            fingerprint=manifest.fingerprint,
            made_with=sorted([*_made_with(manifest.settings), *manifest.versions.items()]),
            warnings=notices,
        )

    def _prune_data(self, data: str) -> None:
        with output_errors(self.folder):
            for old in (self.folder / DATA).iterdir():
                if old.name != Path(data).name:
                    shutil.rmtree(old)


def _shown(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures in their order; no rates of a mission whose seconds were not counted apart."""
    if not figures:
        return {}
    return {key: figures.get(key, 0) for key in (FIGURES if figures.get("seconds") else COUNTS)}


def _differences(paths: OutputPaths, manifest: Manifest) -> Iterator[Notice]:
    """Delivered files that are not those which the manifest tells of."""
    for path, key in ((paths.jsonl, "warning_jsonl_differs"), (paths.rejected, "warning_rejected_differs")):
        told = manifest.files.get(path.name)
        if told is not None and exists(path) and _sha256(path) != told.sha256:
            yield Notice(key)


def _gone(photos: int) -> Iterator[Notice]:
    if photos:
        yield Notice("warning_photos_gone", {"n": photos})


def _sha256(path: Place) -> str:
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made_with(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Settings as `section.key` and text, but for where things and servers are: nobody else's business."""
    for section, keys in settings.items():
        places = path_settings(Settings, section)
        for key, value in keys.items() if isinstance(keys, Mapping) else ():
            text = str(value)
            if key not in places and "://" not in text:
                yield f"{section}.{key}", Path(text).name if text.startswith(("/", "~")) else text

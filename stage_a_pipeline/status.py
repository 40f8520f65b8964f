"""Where each mission stands: what is there, what is remembered, what was delivered, what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError, DiscoveryError, InputError, JournalError
from stage_a_pipeline.inference.journal import count_answers
from stage_a_pipeline.inference.shard import mission_recipe
from stage_a_pipeline.inference.shared_journals import fetch_journals
from stage_a_pipeline.input_root import open_root
from stage_a_pipeline.jsonl import Manifest, OutputPaths, output_paths, read_manifest
from stage_a_pipeline.missions import Mission, MissionTable, load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import exists, open_to_read


@dataclass(frozen=True, slots=True)
class MissionStatus:
    """Counts of one mission, and every problem in a sentence of its own.

    `answers` are those that a run with these settings would reuse; groups written and rejected are
    those of the last delivered run. A count that cannot be told is None.
    """

    mission: str
    groups: int
    photos: int
    answers: int | None
    written: int | None
    rejected: int | None
    jsonl: Place
    last_run_failed: bool = False
    problems: tuple[str, ...] = ()


def mission_status(settings: Settings, names: Sequence[str] = ()) -> Iterator[MissionStatus]:
    """The status of the named missions, or of all that have a folder or a delivered file.

    Raises ConfigurationError for an unknown name or an unset input root, DiscoveryError for an input
    root that is not there, StoreError for a store that fails. Whatever else is
    wrong is a problem of its mission.
    """
    missions = load_missions(settings.discovery.missions_file)
    root = open_root(settings.require_input_root())
    fetch_journals(settings.output)
    survey = _Survey(settings, missions, root)
    for mission in [missions.require(name) for name in names] or missions.values():
        status = survey.look_at(mission, even_without_folder=bool(names))
        if status is not None:
            yield status


@dataclass
class _Survey:
    """Looks at one mission after another."""

    settings: Settings
    missions: MissionTable
    root: Place
    problems: list[str] = field(default_factory=list)

    def look_at(self, mission: Mission, *, even_without_folder: bool) -> MissionStatus | None:
        """The mission's status; None where it has neither a folder nor files of its own."""
        self.problems = []
        paths = output_paths(self.settings.output.output_dir, mission.name)
        known = even_without_folder or exists(paths.manifest) or exists(paths.rejected)
        sizes = self._group_sizes(mission)
        if self.problems and not known:
            return None
        manifest = self._manifest(paths)
        failed = self._last_run_failed(mission, paths, manifest)
        return MissionStatus(
            mission=mission.name,
            groups=len(sizes),
            photos=sum(sizes),
            answers=self._answers(mission),
            written=manifest.counts.written if manifest else None,
            rejected=manifest.counts.rejected if manifest else None,
            jsonl=paths.jsonl,
            last_run_failed=failed,
            problems=tuple(self.problems),
        )

    def _group_sizes(self, mission: Mission) -> list[int]:
        try:
            found = discover_groups(
                self.root,
                mission.name,
                missions=self.missions,
                allow_external_symlinks=self.settings.discovery.allow_external_symlinks,
            )
        except DiscoveryError as error:
            self.problems.append(str(error))
            return []
        return [len(group.images) for group in found.groups]

    def _manifest(self, paths: OutputPaths) -> Manifest | None:
        try:
            return read_manifest(paths.manifest) if exists(paths.manifest) else None
        except InputError as error:
            self.problems.append(str(error))
            return None

    def _last_run_failed(self, mission: Mission, paths: OutputPaths, manifest: Manifest | None) -> bool:
        """Whether the rejected lines are later than the manifest: a failed run writes them alone."""
        if manifest is None and exists(paths.manifest):
            # A damaged manifest cannot tell.
            return False
        try:
            failed = _is_file(paths.rejected) and not _is_delivered(paths.rejected, manifest)
        except OSError as error:
            self.problems.append(f"{paths.rejected} cannot be read: {error.strerror or error}")
            return False
        if failed:
            self.problems.append(
                f"the last run of mission {mission.name} failed and delivered no JSONL; each lost photo is "
                f"listed with its reason in {paths.rejected}"
            )
        return failed

    def _answers(self, mission: Mission) -> int | None:
        folder = self.settings.output.work_dir / "journal" / mission.name
        if not any(folder.glob("*.jsonl")):
            # Nothing to count; hashing a large checkpoint would take its time.
            return 0
        try:
            return count_answers(folder, mission_recipe(mission, self.settings).fingerprint)
        except (ConfigurationError, JournalError) as error:
            self.problems.append(str(error))
            return None


def _is_file(place: Place) -> bool:
    return place.is_file() if isinstance(place, Path) else exists(place)


def _is_delivered(path: Place, manifest: Manifest | None) -> bool:
    """Whether the file is, byte for byte, the one that the manifest describes."""
    digest = manifest.files.get(path.name) if manifest is not None else None
    if digest is None:
        return False
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest.sha256

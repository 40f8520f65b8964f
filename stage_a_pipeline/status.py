"""Where each mission stands: what is there, what is remembered, what was delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.inference.journal import count_answers
from stage_a_pipeline.jsonl import output_paths, read_manifest
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class MissionStatus:
    """Counts of one mission; groups written and rejected are those of the last delivered run."""

    mission: str
    groups: int
    photos: int
    answers: int
    written: int | None
    rejected: int | None
    jsonl: Path
    problem: str | None = None


def mission_status(settings: Settings, names: Sequence[str] = ()) -> Iterator[MissionStatus]:
    """The status of the named missions, or of all that have a folder or a delivered file.

    Raises ConfigurationError for an unknown name or an unset input root.
    """
    missions = load_missions(settings.discovery.missions_file)
    root = settings.require_input_root()
    for mission in [missions.require(name) for name in names] or missions.values():
        paths = output_paths(settings.output.output_dir, mission.name)
        groups = photos = 0
        problem = None
        try:
            found = discover_groups(
                root,
                mission.name,
                missions=missions,
                allow_external_symlinks=settings.discovery.allow_external_symlinks,
            ).groups
            groups, photos = len(found), sum(len(group.images) for group in found)
        except DiscoveryError as error:
            problem = str(error)
            if not names and not paths.manifest.exists():
                continue
        counts = read_manifest(paths.manifest).counts if paths.manifest.exists() else None
        yield MissionStatus(
            mission=mission.name,
            groups=groups,
            photos=photos,
            answers=count_answers(settings.output.work_dir / "journal" / mission.name),
            written=counts.written if counts else None,
            rejected=counts.rejected if counts else None,
            jsonl=paths.jsonl,
            problem=problem,
        )

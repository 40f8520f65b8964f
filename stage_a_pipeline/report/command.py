"""Reports of what an output folder holds, without a pipeline around them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import InputError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.report.figures import find_figures
from stage_a_pipeline.report.mission import MissionReport, Report
from stage_a_pipeline.settings import Settings


def write_reports(settings: Settings, names: Sequence[str] = ()) -> Iterator[tuple[str, Report]]:
    """Write the report of each named mission, or of all that are delivered; yields each as it is there.

    ConfigurationError for an unknown mission or an unset input root, InputError where nothing is delivered;
    and what MissionReport.write raises.
    """
    missions = load_missions(settings.discovery.missions_file)
    chosen = [missions.require(name).name for name in names] or list(missions)
    reports = {name: MissionReport(name, settings) for name in chosen}
    delivered = [name for name in chosen if names or reports[name].delivered]
    if not delivered:
        raise InputError(
            f"{settings.output.output_dir} holds no delivered mission; run one first (stage-a materialize)"
        )
    photos, run_id = photo_source(settings), str(uuid.uuid4())
    for name in delivered:
        found = discover_groups(
            settings.require_input_root(),
            name,
            missions=missions,
            allow_external_symlinks=settings.discovery.allow_external_symlinks,
        )
        figures = find_figures(settings.output.work_dir, name)
        yield name, reports[name].write(found.groups, photos, run_id=run_id, figures=figures)

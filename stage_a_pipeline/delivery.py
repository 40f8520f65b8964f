"""The last step: check the budget, count, and publish a mission's three files."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from stage_a_pipeline import __version__
from stage_a_pipeline.jsonl import (
    GroupCounts,
    Manifest,
    PhotoCounts,
    Publication,
    output_paths,
    publish,
)
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts import build_prompt, prompt_hash
from stage_a_pipeline.records import GroupRecord, Outcome, Rejection
from stage_a_pipeline.settings import Settings

_SHAPING_PACKAGES: Final = ("pillow", "tokenizers", "torch", "transformers")


def deliver_mission(
    mission: Mission,
    records: Sequence[GroupRecord],
    outcomes: Sequence[Outcome],
    *,
    discovered: int,
    sampled: int,
    fingerprint: str,
    settings: Settings,
) -> Publication:
    """Publish the records of a mission, its rejected photos, and the manifest over both.

    `outcomes` are those of all sampled photos; `discovered` and `sampled` count groups. Raises what
    `jsonl.publish` raises; the files of the last good run then stay.
    """
    rejections = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    prompts = settings.prompts
    prompt = build_prompt(mission, profile=prompts.profile, prompts_file=prompts.prompts_file)
    manifest = Manifest(
        mission=mission.name,
        counts=GroupCounts(
            discovered=discovered,
            sampled_out=discovered - sampled,
            written=len(records),
            rejected=sampled - len(records),
        ),
        photos=PhotoCounts(
            sampled=len(outcomes),
            summarised=len(outcomes) - len(rejections),
            rejected=len(rejections),
            written=sum(len(record.images) for record in records),
        ),
        fingerprint=fingerprint,
        prompt_hash=prompt_hash(prompt),
        settings=settings.model_dump(mode="json"),
        versions=shaping_versions(),
    )
    return publish(output_paths(settings.output.output_dir, mission.name), records, rejections, manifest)


def shaping_versions() -> dict[str, str]:
    """Versions of everything that may shape an answer or a pixel."""
    packages = {name: version(name) for name in _SHAPING_PACKAGES}
    return {"stage_a_pipeline": __version__, "python": platform.python_version(), **packages}

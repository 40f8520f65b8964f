"""The last step: check the budget, count, and publish a mission's three files."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

from stage_a_pipeline import __version__
from stage_a_pipeline.engines.vllm_arguments import installed_packages
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.jsonl import (
    GroupCounts,
    Manifest,
    PhotoCounts,
    Publication,
    output_paths,
    publish,
    write_rejections,
)
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import GroupRecord, Rejection
from stage_a_pipeline.storage import exists

_SHAPING_PACKAGES: Final = ("pillow", "tokenizers", "torch", "transformers")


def deliver_mission(
    mission: str,
    records: Iterable[GroupRecord],
    rejections: Iterable[Rejection],
    *,
    groups: GroupCounts,
    photos: PhotoCounts,
    plan: RunPlan,
    output_dir: Place,
) -> Publication:
    """Publish the records of a mission, its rejected photos, and the manifest over both.

    Both are in discovery order, and so many as the counts say; `plan` is what the answers depended on when
    they were made. Raises what `jsonl.publish` raises; the files of the last good run then stay.
    """
    manifest = Manifest(
        mission=mission,
        counts=groups,
        photos=photos,
        fingerprint=plan.fingerprint,
        prompt_hash=plan.prompt_hash,
        settings=plan.settings,
        versions=shaping_versions(),
    )
    return publish(output_paths(output_dir, mission), records, rejections, manifest)


def keep_rejections(output_dir: Place, mission: str, rejections: Iterable[Rejection]) -> str:
    """Write why photos were lost in a run that failed, and say so in a half sentence.

    The JSONL and manifest of the last good run stay as they are.
    """
    paths = output_paths(output_dir, mission)
    write_rejections(paths.rejected, rejections)
    kept = f"{paths.jsonl} stays as it was" if exists(paths.jsonl) else "no JSONL is written"
    return f"each is listed with its reason in {paths.rejected}, {kept}"


def shaping_versions() -> dict[str, str]:
    """Versions of everything that may shape an answer or a pixel."""
    packages = {name: version(name) for name in _SHAPING_PACKAGES}
    packages |= installed_packages()
    return {"stage_a_pipeline": __version__, "python": platform.python_version(), **packages}

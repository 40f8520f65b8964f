"""The last step: check the budget, count, and publish a mission's three files."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from stage_a_pipeline import __version__
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
from stage_a_pipeline.records import GroupRecord, Outcome, Rejection

_SHAPING_PACKAGES: Final = ("pillow", "tokenizers", "torch", "transformers")


def deliver_mission(
    mission: str,
    records: Sequence[GroupRecord],
    outcomes: Sequence[Outcome],
    *,
    discovered: int,
    sampled: int,
    plan: RunPlan,
    output_dir: Path,
) -> Publication:
    """Publish the records of a mission, its rejected photos, and the manifest over both.

    `outcomes` are those of all sampled photos; `discovered` and `sampled` count groups; `plan` is what
    the answers depended on when they were made. Raises what `jsonl.publish` raises; the files of the
    last good run then stay.
    """
    rejections = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    manifest = Manifest(
        mission=mission,
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
        fingerprint=plan.fingerprint,
        prompt_hash=plan.prompt_hash,
        settings=plan.settings,
        versions=shaping_versions(),
    )
    return publish(output_paths(output_dir, mission), records, rejections, manifest)


def keep_rejections(output_dir: Path, mission: str, outcomes: Sequence[Outcome]) -> str:
    """Write why photos were lost in a run that failed, and say so in a half sentence.

    The JSONL and manifest of the last good run stay as they are.
    """
    paths = output_paths(output_dir, mission)
    write_rejections(paths.rejected, [outcome for outcome in outcomes if isinstance(outcome, Rejection)])
    kept = f"{paths.jsonl} stays as it was" if paths.jsonl.exists() else "no JSONL is written"
    return f"each is listed with its reason in {paths.rejected}, {kept}"


def shaping_versions() -> dict[str, str]:
    """Versions of everything that may shape an answer or a pixel."""
    packages = {name: version(name) for name in _SHAPING_PACKAGES}
    return {"stage_a_pipeline": __version__, "python": platform.python_version(), **packages}

"""Delivered runs in few words, written by the pipeline's own last step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage_a_pipeline.jsonl import GroupCounts, Manifest, PhotoCounts, output_paths, publish
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Label, Rejection
from tests.conftest import MISSION
from tests.evaluation.conftest import summary

VERSIONS = {"stage_a_pipeline": "0.1.0"}


def board(direction: str = "方向正确", **counts: int) -> str:
    """A summary of a wind deflector."""
    return summary(("挡风板", {"安装方向": counts or {direction: 1}}))


def record(
    group_id: str, *summaries: str, label: Label = "pass", mission: str = MISSION, **more: Any
) -> GroupRecord:
    """A delivered group of photos 1.jpg, 2.jpg and so on."""
    images = more.pop("images", tuple(f"{number}.jpg" for number in range(1, len(summaries) + 1)))
    return GroupRecord(group_id, mission, label, images, summaries, **more)


def rejection(group_id: str, image: str, *, label: Label = "pass", reason: str = "truncated") -> Rejection:
    """A photo that could not be read."""
    group = Group(MISSION, label, group_id, Path(group_id), (Image(Path(group_id), image),))
    return Rejection(ImageRef(0, 1, group), "read", reason, f"photo {image} ends before its picture does")


def write_run(
    folder: Path,
    records: Sequence[GroupRecord],
    rejections: Sequence[Rejection] = (),
    *,
    mission: str = MISSION,
    fingerprint: str = "f1",
    prompt_hash: str = "p1",
    sampled_out: int = 0,
    engine: dict[str, object] | None = None,
) -> Path:
    """Deliver a mission into the folder, with its manifest; returns the folder."""
    lost = len({one.ref.group.group_id for one in rejections})
    photos = sum(len(one.images) for one in records)
    manifest = Manifest(
        mission,
        GroupCounts(len(records) + lost + sampled_out, sampled_out, len(records), lost),
        PhotoCounts(photos + len(rejections), photos, len(rejections), photos),
        fingerprint,
        prompt_hash,
        {"engine": {"checkpoint": "builtin", **(engine or {})}, "output": {"output_dir": str(folder)}},
        VERSIONS,
    )
    publish(output_paths(folder, mission), records, rejections, manifest)
    return folder

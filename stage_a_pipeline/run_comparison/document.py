"""A comparison as a JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.places import absolute
from stage_a_pipeline.rejected_lines import RejectedLine
from stage_a_pipeline.run_comparison.comparison import MissionComparison, RejectionChange, RunComparison
from stage_a_pipeline.run_comparison.frequency_shifts import FrequencyShift, Shift
from stage_a_pipeline.run_comparison.group_changes import GroupChange, SummaryChange
from stage_a_pipeline.run_comparison.sides import Delivered, LoneGroup
from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors

VERSION: Final = 1
"""Raised when a key changes its meaning or goes away."""

Json = Mapping[str, object]


def write_document(path: Path, comparison: RunComparison) -> None:
    """Replace the JSON document at `path`. OutputError when it cannot be written, or is a file of a run."""
    _refuse_inputs(path, comparison)
    ensure_folder(absolute(path).parent)
    with atomic_write(path, "wb") as file:
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=1)
        for piece in encoder.iterencode(to_mapping(comparison)):
            # Half a surrogate pair, from a file name, becomes its JSON escape.
            file.write(piece.encode("utf-8", "backslashreplace"))
        file.write(b"\n")


def to_mapping(comparison: RunComparison) -> dict[str, object]:
    """As plain JSON data, in the order of docs/compare.md."""
    return {
        "version": VERSION,
        "before": str(comparison.before),
        "after": str(comparison.after),
        "same": comparison.is_same,
        "only_before": list(comparison.only_before),
        "only_after": list(comparison.only_after),
        "missions": {one.mission: _mission(one) for one in comparison.missions},
    }


def _mission(one: MissionComparison) -> Json:
    return {
        "same": one.is_same,
        "before": _delivered(one.before),
        "after": _delivered(one.after),
        "settings": None
        if one.settings is None
        else {
            "sentence": one.settings.sentence,
            "changes": [asdict(change) for change in one.settings.changes],
        },
        "notices": [asdict(notice) for notice in one.notices],
        "in_both": {"groups": one.groups, "photos": one.photos},
        "groups_gained": _lone(one.gained),
        "groups_lost": _lone(one.lost),
        "groups_changed": [_group(group) for group in one.changed],
        "rejections_changed": [_rejection(change) for change in one.rejections],
        "frequencies": [_frequency(shift) for shift in one.frequencies],
    }


def _delivered(one: Delivered) -> Json:
    return {
        "jsonl": str(one.jsonl),
        "groups": one.groups,
        "photos": one.photos,
        "rejected_photos": one.rejected_photos,
        "counts": None if one.counts is None else asdict(one.counts),
    }


def _lone(groups: Iterable[LoneGroup]) -> list[Json]:
    return [
        {
            "group_id": group.group_id,
            "label": group.label,
            "images": list(group.photos),
            "cause": group.cause,
            "rejected": [{"image": line.image, **_reason(line)} for line in group.rejected],
        }
        for group in groups
    ]


def _group(group: GroupChange) -> Json:
    told: dict[str, object] = {
        "group_id": group.group_id,
        "label": {"before": group.label_before, "after": group.label_after},
        "photos_gained": list(group.photos_gained),
        "photos_lost": list(group.photos_lost),
        "summaries": [_summary(change) for change in group.summaries],
    }
    if group.fail_reasons_changed:
        reasons = {"before": group.fail_reasons_before, "after": group.fail_reasons_after}
        told["fail_reasons"] = {
            side: None if texts is None else list(texts) for side, texts in reasons.items()
        }
    return told


def _summary(change: SummaryChange) -> Json:
    told: dict[str, Any] = {
        "image": change.image,
        "kind": change.kind,
        "before": change.before,
        "after": change.after,
    }
    if change.differences:
        told["differences"] = [{**asdict(one), "kind": one.kind} for one in change.differences]
    else:
        told["pieces"] = [[piece.kind, piece.text] for piece in change.pieces()]
    return told


def _rejection(change: RejectionChange) -> Json:
    sides = {"before": change.before, "after": change.after}
    return {
        "group_id": change.group_id,
        "label": change.label,
        "image": change.image,
        **{side: None if line is None else _reason(line) for side, line in sides.items()},
    }


def _reason(line: RejectedLine) -> Json:
    return {"stage": line.stage, "reason": line.reason, "detail": line.detail}


def _frequency(shift: FrequencyShift) -> Json:
    return {
        "attribute": shift.attribute,
        "value": shift.value,
        "paired": {**_shift(shift.paired), "came": shift.came, "went": shift.went},
        "by_label": {label: _shift(one) for label, one in shift.by_label.items()},
        "counted": {"before": shift.counted[0], "after": shift.counted[1]},
        "all": _shift(shift.every),
        "p_adjusted": {"photos": shift.p_adjusted, "counted": shift.p_adjusted_counted},
        "matters": shift.matters,
    }


def _shift(shift: Shift) -> Json:
    return {"before": asdict(shift.before), "after": asdict(shift.after), "difference": shift.difference}


def _refuse_inputs(path: Path, comparison: RunComparison) -> None:
    with output_errors(path):
        read = [side.jsonl for one in comparison.missions for side in (one.before, one.after)]
        if path.exists() and any(isinstance(place, Path) and path.samefile(place) for place in read):
            raise OutputError(f"{path} is one of the files compared; give the path of another file")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OutputError(f"{path} is a device or pipe and cannot be replaced; give the path of a file")

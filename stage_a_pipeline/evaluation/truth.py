"""The truth sidecar: one JSON line per photo of a tree, and which of them belong to the photos at hand."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from pathlib import Path, PurePosixPath
from reprlib import repr as _short
from typing import Final

from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.input_root import TRUTH_NAME
from stage_a_pipeline.jsonl import load_json_line, numbered_lines
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import LABELS, Group, ImageRef, Label
from stage_a_pipeline.settings import EvaluationSettings
from stage_a_pipeline.storage import exists
from stage_a_pipeline.storage.object_tree import list_below

_REMEDY: Final = "correct evaluation.truth (--truth), or put the file there"


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one photo. `path` is relative to the root; `summary` None is not evaluated.

    `verdict` is the true one of its group, where the folder's label may be wrong.
    """

    line: int
    path: str
    summary: str | None
    label: Label | None = None
    verdict: Label | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """All lines of a truth sidecar by path, in NFC."""

    path: Place
    truths: Mapping[str, Truth]

    def of_mission(self, mission: Mission) -> list[Truth]:
        """The lines of photos below the mission's folders."""
        return [truth for key, truth in self.truths.items() if key.split("/")[0] in mission.folder_names]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Photos and lines that are not evaluated, and why."""

    photos_without_truth_line: int = 0
    photos_without_true_summary: int = 0
    truth_lines_without_photo: int = 0
    truth_lines_not_evaluated: int = 0
    truth_lines_of_other_missions: int = 0

    def plus(self, other: Unmatched) -> Unmatched:
        """The sums of both."""
        return Unmatched(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(Unmatched))
        )

    def sentences(self) -> list[str]:
        """What people should know of it, one phrase per count above 0."""
        told = {
            "photos without a line in the truth sidecar": self.photos_without_truth_line,
            "photos whose line has no summary": self.photos_without_true_summary,
            "truth lines without a photo": self.truth_lines_without_photo,
            "truth lines of photos that are there but not evaluated": self.truth_lines_not_evaluated,
            "truth lines of other missions": self.truth_lines_of_other_missions,
        }
        return [f"{what}: {count}" for what, count in told.items() if count]


@dataclass(frozen=True, slots=True)
class MissionTruth:
    """A mission's groups, and the truth of their photos by (group index, image index)."""

    mission: Mission
    groups: tuple[Group, ...]
    truths: Mapping[tuple[int, int], Truth]
    unmatched: Unmatched

    def of(self, ref: ImageRef) -> Truth | None:
        """What is true of the photo; None for one that is not evaluated."""
        return self.truths.get((ref.group_index, ref.image_index))


def tree_root(groups: Sequence[Group]) -> Place:
    """The input root in which the groups were discovered: above mission, label and group."""
    return groups[0].folder.parents[2]


def find_sidecar(settings: EvaluationSettings, root: Place) -> Place | None:
    """The configured truth file, else the one in the root; None where that is not there."""
    if settings.truth is not None:
        return settings.truth
    path = root / TRUTH_NAME
    return path if exists(path) else None


def read_sidecar(path: Place) -> Sidecar:
    """The lines of a sidecar.

    InputError when the file cannot be read; RecordError names file, line and field of a bad line.
    """
    truths: dict[str, Truth] = {}
    for number, line in numbered_lines(path, what="truth sidecar", remedy=_REMEDY):
        try:
            truth = _parse_truth(load_json_line(line), number)
            key = unicodedata.normalize("NFC", str(PurePosixPath(truth.path)))
            if key in truths:
                raise RecordError("path", f"{truth.path!r} stands on line {truths[key].line} too; keep one")
        except RecordError as error:
            raise error.at_line(number, source=str(path)) from None
        truths[key] = truth
    return Sidecar(path, truths)


def match_truth(mission: Mission, groups: Sequence[Group], sidecar: Sidecar) -> MissionTruth:
    """The truth of the photos of a mission's groups.

    RecordError for a true summary of the mission that is not valid in its vocabulary.
    """
    lines = sidecar.of_mission(mission)
    for truth in lines:
        _require_valid(truth, mission, sidecar.path)
    photos = {
        (group_index, image_index): _photo_key(group, image.name)
        for group_index, group in enumerate(groups)
        for image_index, image in enumerate(group.images, start=1)
    }
    found = {place: sidecar.truths[key] for place, key in photos.items() if key in sidecar.truths}
    truths = {place: truth for place, truth in found.items() if truth.summary is not None}
    matched = {truth.line for truth in found.values()}
    others = [truth for truth in lines if truth.line not in matched]
    there = _count_files(tree_root(groups), [truth.path for truth in others])
    unmatched = Unmatched(
        photos_without_truth_line=len(photos) - len(found),
        photos_without_true_summary=len(found) - len(truths),
        truth_lines_without_photo=len(others) - there,
        truth_lines_not_evaluated=there,
    )
    return MissionTruth(mission, tuple(groups), truths, unmatched)


def count_unmatched(matched: Sequence[MissionTruth], sidecar: Sidecar) -> Unmatched:
    """What of the missions' photos and of all the sidecar's lines is not evaluated."""
    own = sum(len(sidecar.of_mission(truth.mission)) for truth in matched)
    others = Unmatched(truth_lines_of_other_missions=len(sidecar.truths) - own)
    return reduce(Unmatched.plus, (truth.unmatched for truth in matched), others)


def require_truths(matched: Sequence[MissionTruth], sidecar: Sidecar, unmatched: Unmatched) -> None:
    """InputError, saying what there is instead, when no photo has a true summary."""
    if not any(mission.truths for mission in matched):
        names = ", ".join(mission.mission.name for mission in matched)
        raise InputError(
            f"truth sidecar {sidecar.path} has no summary for any photo of {names}: "
            f"{'; '.join(unmatched.sentences()) or 'it is empty'}; "
            "its paths must be relative to the input root, with forward slashes"
        )


def _photo_key(group: Group, image: str) -> str:
    return unicodedata.normalize("NFC", "/".join([*group.folder.parts[-3:], image]))


def _count_files(root: Place, paths: Sequence[str]) -> int:
    """How many of these paths below the root are files; a store is asked for its listing, not for each."""
    if isinstance(root, Path):
        return sum(_is_file(root / path) for path in paths)
    listed = {
        f"{top}/{key}" for top in {path.split("/")[0] for path in paths} for key, _ in list_below(root / top)
    }
    return sum(path in listed for path in paths)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name too long for any file, or a folder that cannot be searched: no photo either way.
        return False


def _require_valid(truth: Truth, mission: Mission, source: Place) -> None:
    problem = None if truth.summary is None else summary_defect(truth.summary, mission.dataset)
    if problem is not None:
        raise RecordError(
            "summary",
            f"is no valid {mission.dataset} summary of {truth.path}: {problem}; correct it, or make it null",
            line=truth.line,
            source=str(source),
        )


def _parse_truth(mapping: object, line: int) -> Truth:
    if not isinstance(mapping, dict):
        raise RecordError("record", "must be a JSON object with path and summary")
    for key in ("path", "summary"):
        if key not in mapping:
            raise RecordError(key, "is missing; every line needs path and summary")
    summary = mapping["summary"]
    if summary is not None and not isinstance(summary, str):
        raise RecordError(
            "summary", f"must be text, or null for a photo without a truth, not {_short(summary)}"
        )
    return Truth(
        line=line,
        path=_parse_path(mapping["path"]),
        summary=summary,
        label=_parse_label(mapping, "label"),
        verdict=_parse_label(mapping, "verdict"),
    )


def _parse_path(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise RecordError("path", f"must be a photo's path below the root, not {_short(value)}")
    if "\\" in value:
        raise RecordError("path", f"{value!r} has backslashes; separate folders with forward slashes")
    if value.startswith("/") or ".." in value.split("/"):
        raise RecordError("path", f"{value!r} leaves the root; give it relative to the root")
    return value


def _parse_label(mapping: Mapping[str, object], key: str) -> Label | None:
    value = mapping.get(key)
    if value is not None and value not in LABELS:
        raise RecordError(key, f"must be one of {', '.join(LABELS)}, not {_short(value)}")
    return value

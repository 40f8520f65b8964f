"""One of the two runs of a mission: what it delivered, and why it has no record of a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import GroupCounts, Manifest, OutputPaths, read_manifest
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import GroupRecord, Label
from stage_a_pipeline.rejected_lines import RejectedLine, read_rejected_lines
from stage_a_pipeline.run_comparison.runs import is_described
from stage_a_pipeline.storage import exists

AbsenceCause = Literal["rejected", "not_discovered", "not_sampled_or_not_discovered", "unknown"]
"""Why a run has no record of a group, as its rejected lines and manifest tell."""


@dataclass(frozen=True, slots=True)
class LoneGroup:
    """A group that one run has and the other has not; why, and the photos that were rejected there."""

    group_id: str
    label: Label
    photos: tuple[str, ...]
    cause: AbsenceCause
    rejected: tuple[RejectedLine, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one run has delivered of a mission. `counts` are those of its manifest, where there is one."""

    jsonl: Place
    groups: int
    photos: int
    rejected_photos: int
    counts: GroupCounts | None


PhotoKey = tuple[str, Label, str]
"""Group id, label, and the photo's name."""

SideName = Literal["before", "after"]
NoticeKind = Literal[
    "manifest_missing", "manifest_damaged", "jsonl_differs", "rejected_missing", "rejected_differs"
]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something odd about the files of a run, which does not keep them from being compared."""

    side: SideName
    kind: NoticeKind
    told: str

    def sentence(self) -> str:
        """For people who may know where the files are."""
        return f"{self.side}: {self.told}"


class Side:
    """One run's files of a mission: its manifest, its rejected lines, and what is odd about them."""

    def __init__(self, name: SideName, files: OutputPaths) -> None:
        self.notices: list[Notice] = []
        self._name = name
        self._files = files
        self._groups = self._photos = 0
        self.manifest = self._read_manifest()
        self.rejected = self._read_rejected()
        self._by_id: dict[str, list[RejectedLine]] = {}
        for line in self.rejected.values():
            self._by_id.setdefault(line.group_id, []).append(line)

    def count(self, record: GroupRecord) -> None:
        """Count a record of this run."""
        self._groups += 1
        self._photos += len(record.images)

    def delivered(self) -> Delivered:
        """What was counted."""
        counts = self.manifest.counts if self.manifest is not None else None
        return Delivered(self._files.jsonl, self._groups, self._photos, len(self.rejected), counts)

    def absent(self, record: GroupRecord) -> LoneGroup:
        """Another run's group that this one has no record of."""
        lines = self._by_id.get(record.group_id, [])
        # Its label may have changed as well; a resubmission of the other label is another group.
        lines = [line for line in lines if line.label == record.label] or lines
        lost = [line for line in lines if line.image in record.images] or lines
        return LoneGroup(
            record.group_id,
            record.label,
            record.images,
            "rejected" if lost else self._cause(),
            tuple(lost),
        )

    def _cause(self) -> AbsenceCause:
        if self.manifest is None:
            return "unknown"
        return "not_sampled_or_not_discovered" if self.manifest.counts.sampled_out else "not_discovered"

    def _read_manifest(self) -> Manifest | None:
        path = self._files.manifest
        if not exists(path):
            self._note("manifest_missing", f"there is no {path}: what was set in that run is not known")
            return None
        try:
            manifest = read_manifest(path)
        except InputError as error:
            self._note("manifest_damaged", str(error))
            return None
        if not is_described(self._files.jsonl, manifest):
            self._note(
                "jsonl_differs",
                f"{self._files.jsonl} is not the file that its manifest describes; settings and counts are "
                "those of another run of the mission",
            )
        return manifest

    def _read_rejected(self) -> Mapping[PhotoKey, RejectedLine]:
        path = self._files.rejected
        if not exists(path):
            self._note("rejected_missing", f"there is no {path}: which photos were rejected is not known")
        elif self.manifest is not None and not is_described(path, self.manifest):
            self._note(
                "rejected_differs", f"{path} was written by a later run that failed, and is left out here"
            )
        else:
            return {(line.group_id, line.label, line.image): line for line in read_rejected_lines(path)}
        return {}

    def _note(self, kind: NoticeKind, told: str) -> None:
        self.notices.append(Notice(self._name, kind, told))

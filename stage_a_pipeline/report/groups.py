"""Delivered files and the photo tree, put together again: what a report tells of each group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Group, GroupRecord, Label
from stage_a_pipeline.rejected_lines import RejectedLine


@dataclass(frozen=True, slots=True)
class ReportPhoto:
    """One photo. `place` is None where it is not in the tree any more.

    Without summary and rejection, the photo was summarised, and its group not delivered.
    """

    name: str
    place: Place | None
    summary: str | None = None
    rejection: RejectedLine | None = None


@dataclass(frozen=True, slots=True)
class ReportGroup:
    """One delivered or rejected group. `folder` is its place below the mission's folder, for people."""

    group_id: str
    label: Label
    folder: str
    photos: tuple[ReportPhoto, ...]
    fail_reasons: tuple[str, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether a photo of it was rejected, and the group with it."""
        return any(photo.rejection is not None for photo in self.photos)


def report_groups(
    records: Iterable[GroupRecord], rejected: Iterable[RejectedLine], tree: Iterable[Group]
) -> Iterator[ReportGroup]:
    """Every delivered group in the order of the file, then every rejected one in the order of the lines.

    Groups of the tree that are in neither file were not sampled, and are left out.
    """
    folders = GroupFolders(tree)
    for record in records:
        yield _delivered(record, folders.take(record.label, record.group_id, record.images))
    for lines in _by_group(rejected):
        yield _lost(lines, folders)


class GroupFolders:
    """Groups of the tree, found by what files tell of them. An id may stand for several folders."""

    def __init__(self, tree: Iterable[Group]) -> None:
        self._groups: defaultdict[tuple[Label, str], list[Group]] = defaultdict(list)
        for group in tree:
            self._groups[group.label, group.group_id].append(group)

    def take(self, label: Label, group_id: str, names: tuple[str, ...]) -> Group | None:
        """The first group of that id that holds all these photos, once."""
        candidates = self._groups.get((label, group_id), [])
        for group in candidates:
            if set(names) <= {image.name for image in group.images}:
                candidates.remove(group)
                return group
        return None


def _delivered(record: GroupRecord, group: Group | None) -> ReportGroup:
    places = {image.name: image.path for image in group.images} if group is not None else {}
    photos = tuple(
        ReportPhoto(name, places.get(name), summary=summary)
        for name, summary in zip(record.images, record.summaries, strict=True)
    )
    return ReportGroup(
        record.group_id, record.label, _shown_folder(group), photos, tuple(record.fail_reasons or ())
    )


def _lost(lines: list[RejectedLine], folders: GroupFolders) -> ReportGroup:
    first = lines[0]
    group = folders.take(first.label, first.group_id, tuple(line.image for line in lines))
    if group is None:
        photos = [ReportPhoto(line.image, None, rejection=line) for line in lines]
    else:
        by_name = {line.image: line for line in lines}
        photos = [ReportPhoto(one.name, one.path, rejection=by_name.get(one.name)) for one in group.images]
    return ReportGroup(first.group_id, first.label, _shown_folder(group), tuple(photos))


def _by_group(lines: Iterable[RejectedLine]) -> Iterator[list[RejectedLine]]:
    """The lines of one group after the other; they stand together, their indices rising."""
    group: list[RejectedLine] = []
    for line in lines:
        if group and not _continues(group[-1], line):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _continues(last: RejectedLine, line: RejectedLine) -> bool:
    same = (last.label, last.group_id) == (line.label, line.group_id)
    return same and line.image_index > last.image_index


def _shown_folder(group: Group | None) -> str:
    return "" if group is None else f"{group.folder.parent.name}/{group.folder.name}"

"""From the input root to groups: `<root>/<mission>/{审核不通过|审核通过}/<group>/*.{jpg,jpeg,png}`.

The order of groups and photos follows from names alone, never from the file system. Whatever is not
part of that layout is listed as skipped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.folders import Contents, Skipped, SkipReason, TreeReader, file_state
from stage_a_pipeline.input_root import (
    LAYOUT,
    PHOTO_SUFFIXES,
    folders_by_mission,
    folders_of_mission,
    mission_that_is_root,
    normalised,
    open_root,
    tree_reader,
)
from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.places import Place, as_place
from stage_a_pipeline.records import Group, Image, Label

__all__ = [
    "Discovery",
    "SkipReason",
    "Skipped",
    "TreeWarning",
    "discover_groups",
    "listing_hash",
    "natural_key",
]

LABEL_FOLDERS: Final[Mapping[str, Label]] = {"审核不通过": "fail", "审核通过": "pass"}
"""The labels' folders, in the order in which their groups are discovered."""

_TICKET_NUMBER = re.compile(r"QC-[A-Za-z]+-[0-9]{8}-[0-9]+")
_DIGITS = re.compile(r"([0-9]+)")
_LISTED: Final = 20
"""Skipped entries that are told one by one."""


@dataclass(frozen=True, slots=True)
class TreeWarning:
    """Something in the tree that was read all the same, and that its owner should know of."""

    reason: Literal["root_is_mission_folder", "several_folders", "duplicate_group_id"]
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Discovery:
    """The groups below `root` in discovery order, and all that is noteworthy about the tree.

    `folders` are the mission folders that were read; `skipped` is sorted by path.
    """

    root: Place
    folders: tuple[Place, ...]
    groups: tuple[Group, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[TreeWarning, ...]
    file_state: Callable[[Place, str], str] = field(default=file_state, repr=False, compare=False)

    def listing_hash(self) -> str:
        """See `listing_hash`; files of an object store are as they were listed."""
        return listing_hash(self.groups, self.file_state)

    def sentences(self) -> Iterator[str]:
        """What its owner should know about the tree: every warning, and the first skipped entries."""
        yield from map(str, self.warnings)
        for entry in self.skipped[:_LISTED]:
            yield f"skipped {entry.path} ({entry.reason}): {entry.detail}"
        if len(self.skipped) > _LISTED:
            yield f"and {len(self.skipped) - _LISTED} more were skipped"

    def require_groups(self) -> None:
        """Raise DiscoveryError, saying what was skipped instead, when there is no group at all."""
        if not self.groups:
            where = " and ".join(map(str, self.folders)) or f"any mission's folder in {self.root}"
            raise DiscoveryError(
                f"no group of photos in {where}; groups lie in {LAYOUT}; {_summary(self.skipped)}"
            )


def discover_groups(
    root: str | Place,
    mission: str | None = None,
    *,
    missions: MissionTable | None = None,
    allow_external_symlinks: bool = False,
) -> Discovery:
    """All groups of one mission, or of every mission that has a folder in the root.

    Missions come by name; within one, fail groups before pass groups, then folders by code point;
    photos by natural key. `missions` is the packaged table by default. A root that is a mission's own
    folder stands for its parent and that mission, with a warning. Raises ConfigurationError for an
    unknown mission, DiscoveryError for a root or mission folder that is not there, StoreError for an
    object store that fails on the way.
    """
    table = missions if missions is not None else load_missions()
    wanted = table.require(mission) if mission is not None else None
    base = open_root(as_place(root) if isinstance(root, str) else root)
    warnings: list[TreeWarning] = []
    own = mission_that_is_root(base, [wanted] if wanted else table.values())
    if own is not None:
        told = f"the input root {base} is the own folder of mission {own[1].name}; its parent is used"
        warnings.append(TreeWarning("root_is_mission_folder", told))
        base, wanted = own
    reader = tree_reader(base, follow_external_links=allow_external_symlinks)
    if wanted is not None:
        folders = folders_of_mission(wanted, base, reader)
    else:
        folders = folders_by_mission(table, base, reader)
    groups = tuple(group for name in folders for group in _mission_groups(name, folders[name], reader))
    return Discovery(
        root=base,
        folders=tuple(folder for places in folders.values() for folder in places),
        groups=groups,
        skipped=tuple(sorted(reader.skipped, key=lambda entry: (str(entry.path), entry.reason))),
        warnings=(*warnings, *_several_folders(folders), *_duplicate_ids(groups)),
        file_state=reader.file_state,
    )


def listing_hash(groups: Iterable[Group], state_of: Callable[[Place, str], str] = file_state) -> str:
    """SHA-256 over missions, labels, ids, folder and file names, and the files' states.

    The state of a file of this machine is its size and time of change; one that has gone counts as gone. The
    same for an unchanged tree wherever it lies; photos are not opened.
    """
    digest = hashlib.sha256()
    for group in groups:
        head = [group.mission, group.label, group.group_id, group.folder.name, str(len(group.images))]
        files = [f"{image.name}\0{state_of(group.folder, image.name)}" for image in group.images]
        digest.update("\0".join([*head, *files, ""]).encode())
    return digest.hexdigest()


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key: the lower-cased text with runs of ASCII digits as numbers, then the plain name."""
    parts: list[str | int] = list(_DIGITS.split(name.lower()))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _mission_groups(mission: str, folders: Iterable[Place], reader: TreeReader) -> Iterator[Group]:
    by_label: dict[Label, list[Place]] = {label: [] for label in LABEL_FOLDERS.values()}
    for path in _folders_in(folders, reader):
        label = LABEL_FOLDERS.get(normalised(path.name))
        if label is None:
            reader.skip(path, "unknown_label", f"is no label; labels are {' and '.join(LABEL_FOLDERS)}")
        else:
            by_label[label].append(path)
    for label, places in by_label.items():
        for folder in sorted(_folders_in(places, reader), key=lambda path: (path.name, str(path.parent))):
            group = _read_group(mission, label, folder, reader)
            if group is not None:
                yield group


def _folders_in(parents: Iterable[Place], reader: TreeReader) -> Iterator[Place]:
    for parent in parents:
        contents = reader.read(parent) or Contents()
        for name in contents.files:
            reader.skip(parent / name, "loose_file", f"is a file outside a group; photos lie in {LAYOUT}")
        yield from contents.folders


def _read_group(mission: str, label: Label, folder: Place, reader: TreeReader) -> Group | None:
    if not folder.name.strip():
        reader.skip(folder, "blank_name", "has a blank name, which cannot be a group id; rename it")
        return None
    contents = reader.read(folder)
    if contents is None:
        return None
    photos = []
    for name in contents.files:
        if name.lower().endswith(PHOTO_SUFFIXES):
            photos.append(name)
        else:
            reader.skip(folder / name, "not_a_photo", f"does not end in {', '.join(PHOTO_SUFFIXES)}")
    for nested in contents.folders:
        reader.skip(nested, "nested_folder", "is a folder within a group; photos in it are not read")
    if not photos:
        reader.skip(folder, "empty_group", "holds no photo of its own")
        return None
    photos.sort(key=natural_key)
    ticket = _TICKET_NUMBER.match(photos[0].rpartition(".")[0])
    return Group(
        mission=mission,
        label=label,
        group_id=ticket[0] if ticket else folder.name,
        folder=folder,
        images=tuple(Image(folder, name) for name in photos),
    )


def _several_folders(folders: Mapping[str, list[Place]]) -> Iterator[TreeWarning]:
    for mission, places in folders.items():
        if len(places) > 1:
            where = ", ".join(map(str, places))
            told = f"mission {mission} has {len(places)} folders, and all are read: {where}"
            yield TreeWarning("several_folders", told)


def _duplicate_ids(groups: Iterable[Group]) -> Iterator[TreeWarning]:
    """Ids that occur twice within a label: Stage-B keys tickets by id and label, and would mix them."""
    first: dict[tuple[str, Label, str], Group] = {}
    places: dict[tuple[str, Label, str], list[Place]] = {}
    for group in groups:
        key = (group.mission, group.label, normalised(group.group_id))
        if key in first:
            places.setdefault(key, [first[key].folder]).append(group.folder)
        else:
            first[key] = group
    for (mission, label, group_id), same in places.items():
        where = ", ".join(map(str, same))
        told = f"{len(same)} groups of mission {mission} are the same ticket {group_id}::{label}: {where}"
        yield TreeWarning("duplicate_group_id", told)


def _summary(skipped: Iterable[Skipped]) -> str:
    skipped = tuple(skipped)
    counts = Counter(entry.reason for entry in skipped)
    examples = {entry.reason: f"{entry.path} {entry.detail}" for entry in reversed(skipped)}
    told = ", ".join(f"{count} {reason} ({examples[reason]})" for reason, count in counts.items())
    return f"skipped: {told}" if told else "there is nothing in it"

"""Where delivered photos are now: the input root, listed again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Group, GroupRecord, Label
from stage_a_pipeline.settings import Settings

_Key = tuple[Label, str]
_Taken = tuple[Label, str, tuple[str, ...]]


class PhotoPlaces:
    """The photos of one mission's groups below `root`, by what the delivered lines tell of them.

    A record names no folder: groups are found by label, id and the names of their photos. Groups that are the
    same in all of these are told apart by their order, where as many are delivered as there are folders;
    otherwise it is not known which is which, and none is taken.
    """

    def __init__(self, root: Place | None, groups: Iterable[Group]) -> None:
        self._root = root
        self._groups: dict[_Key, list[Group]] = defaultdict(list)
        for group in groups:
            self._groups[group.label, group.group_id].append(group)
        self._expected: Counter[_Taken] = Counter()
        self._taken: Counter[_Taken] = Counter()

    @property
    def has_doubles(self) -> bool:
        """Whether any two groups share label and id, so that `expect` is needed."""
        return any(len(groups) > 1 for groups in self._groups.values())

    def expect(self, records: Iterable[GroupRecord]) -> None:
        """Count the records that will be asked for."""
        self._expected.update((record.label, record.group_id, record.images) for record in records)

    def places_of(self, record: GroupRecord) -> tuple[Place | None, ...]:
        """Where each photo of the record is; None for one that is gone. Ask once, in the file's order."""
        group = self._group_of(record)
        return tuple(self._place(group, name) for name in record.images)

    def place_of(self, label: Label, group_id: str, image: str) -> Place | None:
        """Where a single photo is; None where it is gone, or several groups have it."""
        holders = [
            group
            for group in self._groups.get((label, group_id), ())
            if any(photo.name == image for photo in group.images)
        ]
        return self._place(holders[0], image) if len(holders) == 1 else None

    def relative(self, place: Place) -> str:
        """The place below the input root, with forward slashes."""
        assert self._root is not None
        if isinstance(place, Path) and isinstance(self._root, Path):
            return place.relative_to(self._root).as_posix()
        return str(place).removeprefix(str(self._root).rstrip("/") + "/")

    def _group_of(self, record: GroupRecord) -> Group | None:
        candidates = self._groups.get((record.label, record.group_id), [])
        same = [group for group in candidates if _names(group) == record.images]
        if len(same) > 1:
            taken = (record.label, record.group_id, record.images)
            self._taken[taken] += 1
            return same[self._taken[taken] - 1] if self._expected[taken] == len(same) else None
        if same:
            return same[0]
        # Photos were added or removed since: those that are still there are found one by one.
        return candidates[0] if len(candidates) == 1 else None

    def _place(self, group: Group | None, name: str) -> Place | None:
        if group is None or all(photo.name != name for photo in group.images):
            return None
        return group.folder / name


def find_photos(delivery: Delivery, settings: Settings) -> PhotoPlaces:
    """The photos of a delivered mission; none where no input root is set or the mission's folder is gone.

    DiscoveryError for an input root that is set and not there.
    """
    root = settings.discovery.input_root
    if root is None:
        return PhotoPlaces(None, ())
    try:
        found = discover_groups(
            root,
            delivery.mission.name,
            missions=load_missions(settings.discovery.missions_file),
            allow_external_symlinks=settings.discovery.allow_external_symlinks,
        )
    except DiscoveryError:
        if not _is_there(root):
            raise
        return PhotoPlaces(root, ())
    places = PhotoPlaces(found.root, found.groups)
    if places.has_doubles:
        places.expect(delivery.records())
    return places


def _is_there(root: Place) -> bool:
    return not isinstance(root, Path) or root.is_dir()


def _names(group: Group) -> Sequence[str]:
    return tuple(photo.name for photo in group.images)

"""The input root: checked, and the folders in it that hold missions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from upath import UPath

from stage_a_pipeline.errors import DiscoveryError, NoMissionFolderError
from stage_a_pipeline.folders import Contents, FolderReader, TreeReader, display, is_utf8
from stage_a_pipeline.missions import Mission, MissionTable
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.object_tree import ObjectTreeReader

LAYOUT: Final = "<root>/<mission>/{审核不通过|审核通过}/<group>/*.{jpg,jpeg,png}"
PHOTO_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
TRUTH_NAME: Final = "truth.jsonl"
"""The truth sidecar's name where it lies in the root, as demo trees bring it and evaluations look for it."""

_REMEDY: Final = f"set discovery.input_root (STAGE_A_INPUT_ROOT) to the root of {LAYOUT}"
_NAMES_SHOWN: Final = 12


def open_root(root: Place) -> Place:
    """The root, a path made absolute; DiscoveryError unless it is a folder that can be listed."""
    return _open_folder(root) if isinstance(root, Path) else _open_prefix(root)


def tree_reader(root: Place, *, follow_external_links: bool) -> TreeReader:
    """Reads the folders below an opened root."""
    if isinstance(root, Path):
        return FolderReader(root, follow_external_links=follow_external_links)
    return ObjectTreeReader(root)


def _open_folder(root: Path) -> Path:
    path = root.absolute()
    if not is_utf8(str(path)) or "\0" in str(path):
        raise DiscoveryError(f"input root {display(str(path))!r} is not a valid path; rename or correct it")
    try:
        _names_in(path)
    except FileNotFoundError:
        raise DiscoveryError(f"input root {path} does not exist; {_nearest(path)}; {_REMEDY}") from None
    except NotADirectoryError:
        raise DiscoveryError(f"input root {path} is not a folder; {_REMEDY}") from None
    except OSError as error:
        raise DiscoveryError(
            f"input root {path} cannot be listed: {error.strerror}; check its permissions, or {_REMEDY}"
        ) from error
    return path


def _open_prefix(root: UPath) -> UPath:
    try:
        _names_in(root)
    except FileNotFoundError as error:
        raise DiscoveryError(
            f"input root {root} does not exist: {error.strerror}; correct its name, or {_REMEDY}"
        ) from error
    except NotADirectoryError:
        raise DiscoveryError(f"input root {root} is not a folder; {_REMEDY}") from None
    except PermissionError as error:
        raise DiscoveryError(
            f"input root {root} cannot be listed: {error.strerror}; give credentials that may list and get "
            f"there, or {_REMEDY}"
        ) from error
    except OSError as error:
        raise DiscoveryError(
            f"input root {root} cannot be listed: {error.strerror}; check the network and the store's "
            "address, and run again"
        ) from error
    return root


def mission_that_is_root(root: Place, missions: Iterable[Mission]) -> tuple[Place, Mission] | None:
    """The root's parent and the mission whose own folder the root is, if it is one of these."""
    missions = tuple(missions)
    held = {normalised(name) for name in _names_in(root)}
    if any(held.intersection(mission.folder_names) for mission in missions):
        return None
    for place in (root, root.resolve()) if isinstance(root, Path) else (root,):
        for mission in missions:
            if normalised(place.name) in mission.folder_names:
                return place.parent, mission
    return None


def folders_by_mission(table: MissionTable, root: Place, reader: TreeReader) -> dict[str, list[Place]]:
    """Folders in the root by the mission that claims them, in the table's order; others are skipped.

    Files beside them are nobody's business (a workbook may lie there), unless they are photos.
    """
    contents = reader.read(root) or Contents()
    found = {mission.name: _claimed(mission, contents) for mission in table.values()}
    claimed = {folder for folders in found.values() for folder in folders}
    for folder in contents.folders:
        if folder not in claimed:
            detail = (
                f"is no mission's folder; known missions: {', '.join(table)}; "
                "a missions file (setting missions_file or STAGE_A_MISSIONS) adds others"
            )
            reader.skip(folder, "unknown_mission", detail)
    names = {name for mission in table.values() for name in mission.folder_names}
    for name in contents.files:
        if name.lower().endswith(PHOTO_SUFFIXES) or normalised(name) in names:
            reader.skip(root / name, "loose_file", f"is a file in the root; photos lie in {LAYOUT}")
    return {name: folders for name, folders in found.items() if folders}


def folders_of_mission(mission: Mission, root: Place, reader: TreeReader) -> dict[str, list[Place]]:
    """The one mission's folders in the root; what else lies there is not looked at.

    DiscoveryError, with what was refused and what is there, when it has none.
    """
    contents = reader.read(root) or Contents()
    reader.skipped[:] = [
        entry for entry in reader.skipped if normalised(entry.path.name) in mission.folder_names
    ]
    folders = _claimed(mission, contents)
    if folders:
        return {mission.name: folders}
    refused = [f"{entry.path} {entry.detail}; " for entry in reader.skipped]
    refused += [
        f"{root / name} is a file; " for name in contents.files if normalised(name) in mission.folder_names
    ]
    names = " or ".join(repr(name) for name in mission.folder_names)
    raise NoMissionFolderError(
        f"mission {mission.name!r} has no folder {names} in input root {root}; {''.join(refused)}"
        f"the root {_holdings(root)}; {_REMEDY}"
    )


def normalised(name: str) -> str:
    """The name in NFC, in which names that look the same are the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _claimed(mission: Mission, contents: Contents) -> list[Place]:
    return [folder for folder in contents.folders if normalised(folder.name) in mission.folder_names]


def _names_in(folder: Place) -> list[str]:
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.iterdir())
    return sorted(name for name, _ in objects.children(folder))


def _nearest(missing: Path) -> str:
    parent = next(parent for parent in missing.parents if parent.is_dir())
    return f"{parent} {_holdings(parent)}"


def _holdings(folder: Place) -> str:
    try:
        names = [display(name) for name in _names_in(folder) if not name.startswith(".")]
    except OSError as error:
        return f"cannot be listed ({error.strerror})"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"holds: {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "is empty"

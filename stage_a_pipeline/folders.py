"""What one folder of the photo tree holds, and what in it is skipped: links, names, permissions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from stage_a_pipeline.places import Place, to_path

SkipReason = Literal[
    "unknown_mission",  # a folder in the root that no mission claims
    "unknown_label",  # a folder in a mission that is neither label
    "loose_file",  # a file where a folder belongs
    "nested_folder",  # a folder within a group; photos in it are not read
    "not_a_photo",  # a file of a group without a photo's suffix
    "empty_group",  # a group without photos
    "blank_name",  # a group whose name is blank cannot be told apart in a table
    "undecodable_name",  # a name that is not UTF-8 cannot be written to JSON
    "impossible_name",  # a key of an object store that no path can name
    "external_link",  # a symbolic link that leads out of the root
    "broken_link",  # a symbolic link to nothing, or in a circle
    "special_file",  # a pipe, socket or device
    "unreadable",  # the file system refuses to list or look
]

_LEFT_BY_WINDOWS: Final = frozenset(["thumbs.db", "desktop.ini"])


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the tree that was not read. In `path`, bytes that are not UTF-8 stand as `\\xNN`."""

    path: Place
    reason: SkipReason
    detail: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The folders in one folder, and the names of its files, both sorted by name."""

    folders: list[Place] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class TreeReader(Protocol):
    """Reads the folders of a photo tree, wherever it lies."""

    skipped: list[Skipped]

    def read(self, folder: Place) -> Contents | None:
        """What the folder holds; None, with an entry in `skipped`, when it cannot be listed."""

    def skip(self, path: Place, reason: SkipReason, detail: str) -> None:
        """Note that the path was not read, and why."""

    def file_state(self, folder: Place, name: str) -> str:
        """A text that differs when the file's content does; photos are not opened."""


class FolderReader:
    """Reads folders below one root of this machine; `skipped` gathers what they hold and what cannot be read.

    Hidden files and folders (names that begin with a dot, AppleDouble included) do not count as there.
    """

    def __init__(self, root: Path, *, follow_external_links: bool = False) -> None:
        self.skipped: list[Skipped] = []
        self._follow_external_links = follow_external_links
        self._real_root = root.resolve()

    def read(self, folder: Place) -> Contents | None:
        """What the folder holds; None, with an entry in `skipped`, when it cannot be listed."""
        contents, folder = Contents(), to_path(folder)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._classify(entry, folder, contents)
        except OSError as error:
            self.skip(folder, "unreadable", f"cannot be listed ({error.strerror}); check its permissions")
            return None
        contents.folders.sort(key=lambda path: path.name)
        contents.files.sort()
        return contents

    def skip(self, path: Place, reason: SkipReason, detail: str) -> None:
        """Note that the path was not read, and why."""
        self.skipped.append(Skipped(Path(display(str(path))), reason, detail))

    def file_state(self, folder: Place, name: str) -> str:
        """See TreeReader."""
        return file_state(folder, name)

    def _classify(self, entry: os.DirEntry[str], folder: Path, contents: Contents) -> None:
        # Called once per file: no Path and no system call for a plain one.
        name = entry.name
        if is_hidden(name):
            return
        if not is_utf8(name):
            self.skip(folder / name, "undecodable_name", "has a name that is not valid UTF-8; rename it")
            return
        is_link = entry.is_symlink()
        if is_link and not self._may_follow(folder / name):
            return
        try:
            if entry.is_dir():
                contents.folders.append(folder / name)
            elif entry.is_file():
                contents.files.append(name)
            elif is_link:
                self.skip(folder / name, "broken_link", "is a link to something that is not there")
            else:
                self.skip(folder / name, "special_file", "is neither a file nor a folder")
        except OSError as error:
            reason: SkipReason = "broken_link" if is_link else "unreadable"
            self.skip(folder / name, reason, f"cannot be looked at ({error.strerror})")

    def _may_follow(self, link: Path) -> bool:
        target = Path(os.path.realpath(link))
        if not self._follow_external_links and not target.is_relative_to(self._real_root):
            self.skip(
                link,
                "external_link",
                f"is a link to {display(str(target))}, outside the input root; "
                "set discovery.allow_external_symlinks to follow it",
            )
            return False
        if Path(os.path.realpath(link.parent)).is_relative_to(target):
            self.skip(link, "broken_link", f"is a link back to {display(str(target))}, in which it lies")
            return False
        return True


def file_state(folder: Place, name: str) -> str:
    """Size and time of change of a file of this machine; one that has gone counts as gone."""
    try:
        # A Path would keep its text for each of a million photos.
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116
    except OSError:
        return "gone"
    return f"{status.st_size}\0{status.st_mtime_ns}"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name does not count as there."""
    return name.startswith(".") or name.lower() in _LEFT_BY_WINDOWS


def display(name: str) -> str:
    """A file name as text that can be printed and stored: bytes that are not UTF-8 become `\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_utf8(name: str) -> bool:
    """Whether a name from the file system is valid text; other bytes come as lone surrogates."""
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

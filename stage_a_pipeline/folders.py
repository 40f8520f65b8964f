"""What one folder of the photo tree holds, and what in it is skipped: links, names, permissions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

SkipReason = Literal[
    "unknown_mission",  # a folder in the root that no mission claims
    "unknown_label",  # a folder in a mission that is neither label
    "loose_file",  # a file where a folder belongs
    "nested_folder",  # a folder within a group; photos in it are not read
    "not_a_photo",  # a file of a group without a photo's suffix
    "empty_group",  # a group without photos
    "blank_name",  # a group whose name is blank cannot be told apart in a table
    "undecodable_name",  # a name that is not UTF-8 cannot be written to JSON
    "external_link",  # a symbolic link that leads out of the root
    "broken_link",  # a symbolic link to nothing, or in a circle
    "special_file",  # a pipe, socket or device
    "unreadable",  # the file system refuses to list or look
]

_LEFT_BY_WINDOWS: Final = frozenset(["thumbs.db", "desktop.ini"])


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the tree that was not read. In `path`, bytes that are not UTF-8 stand as `\\xNN`."""

    path: Path
    reason: SkipReason
    detail: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The folders in one folder, and the names of its files, both sorted by name."""

    folders: list[Path] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class FolderReader:
    """Reads folders below one root; `skipped` gathers what they hold and what cannot be read.

    Hidden files and folders (names that begin with a dot, AppleDouble included) do not count as there.
    """

    def __init__(self, root: Path, *, follow_external_links: bool = False) -> None:
        self.skipped: list[Skipped] = []
        self._follow_external_links = follow_external_links
        self._real_root = root.resolve()

    def read(self, folder: Path) -> Contents | None:
        """What the folder holds; None, with an entry in `skipped`, when it cannot be listed."""
        contents = Contents()
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

    def skip(self, path: Path, reason: SkipReason, detail: str) -> None:
        """Note that the path was not read, and why."""
        self.skipped.append(Skipped(Path(display(str(path))), reason, detail))

    def _classify(self, entry: os.DirEntry[str], folder: Path, contents: Contents) -> None:
        # Called once per file: no Path and no system call for a plain one.
        name = entry.name
        if name.startswith(".") or name.lower() in _LEFT_BY_WINDOWS:
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

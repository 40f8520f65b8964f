"""A photo tree in an object store: one listing per mission, in pages, however many groups it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from upath import UPath

from stage_a_pipeline.errors import StoreError
from stage_a_pipeline.folders import Contents, Skipped, SkipReason, is_hidden
from stage_a_pipeline.places import CHAIN, Place
from stage_a_pipeline.storage import objects


@dataclass(slots=True)
class _Folder:
    folders: dict[str, _Folder] = field(default_factory=dict)
    files: dict[str, objects.ObjectState] = field(default_factory=dict)

    def below(self, names: list[str]) -> _Folder:
        """The folder that these names lead to, made on the way."""
        folder = self
        for name in names:
            folder = folder.folders.setdefault(name, _Folder())
        return folder


def list_below(folder: UPath) -> Iterator[tuple[str, objects.ObjectState]]:
    """All objects below a prefix, as `everything_below` has them. Raises PermissionError, StoreError."""
    with _store_errors(folder):
        yield from objects.everything_below(folder)


@contextmanager
def _store_errors(folder: UPath) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be listed: {error.strerror}; run again once the store can be reached"
        ) from error


class ObjectTreeReader:
    """Reads folders below one root as FolderReader does; there are no links, and none that is empty.

    Below the root, the first folder that is read brings all that lies in it. Raises StoreError when the
    store cannot be listed: a tree of which a part is missing must not pass for a whole one.
    """

    def __init__(self, root: UPath) -> None:
        self.skipped: list[Skipped] = []
        self._root = root
        self._tops: dict[str, _Folder] = {}

    def read(self, folder: Place) -> Contents | None:
        """What the folder holds; None, with an entry in `skipped`, when the store denies it."""
        assert isinstance(folder, UPath)
        try:
            with _store_errors(folder):
                found = self._children() if folder == self._root else self._folder(folder)
        except PermissionError as error:
            self.skip(folder, "unreadable", f"cannot be listed ({error.strerror}); check its permissions")
            return None
        return Contents([folder / name for name in sorted(found.folders)], sorted(found.files))

    def skip(self, path: Place, reason: SkipReason, detail: str) -> None:
        """Note that something was not read, and why."""
        self.skipped.append(Skipped(path, reason, detail))

    def file_state(self, folder: Place, name: str) -> str:
        """Size and version of a file that was listed."""
        assert isinstance(folder, UPath)
        state = self._folder(folder).files[name]
        return f"{state.size}\0{state.version}"

    def _children(self) -> _Folder:
        found = _Folder()
        for name, is_folder in objects.children(self._root):
            if not _is_a_name(name, is_folder=is_folder):
                self.skip(self._root, "impossible_name", _impossible(name))
            elif is_folder:
                found.below([name])
            elif not is_hidden(name):
                found.files[name] = objects.ObjectState(0, "")
        found.folders = {name: below for name, below in found.folders.items() if not is_hidden(name)}
        return found

    def _folder(self, folder: UPath) -> _Folder:
        top, *names = folder.path[len(self._root.path.rstrip("/")) + 1 :].split("/")
        if top not in self._tops:
            self._tops[top] = self._listed(self._root / top)
        return self._tops[top].below(names)

    def _listed(self, top: UPath) -> _Folder:
        """All that lies below, as far as it has names that files could have."""
        found = _Folder()
        for key, state in objects.everything_below(top):
            # A key that ends in a slash is the mark of a folder.
            *names, last = key.split("/")
            possible = all(_is_a_name(name, is_folder=True) for name in names)
            if key and not (possible and _is_a_name(last or "mark", is_folder=False)):
                self.skip(top, "impossible_name", _impossible(key))
            elif not any(map(is_hidden, names)) and not is_hidden(last):
                folder = found.below(names)
                if last:
                    folder.files[last] = state
        return found


def _is_a_name(name: str, *, is_folder: bool) -> bool:
    return name not in ("", ".", "..") and "\0" not in name and not (is_folder and CHAIN in name)


def _impossible(key: str) -> str:
    return (
        f"holds the key {key!r}, which no path can name: a part of it is empty, '.' or '..', or the name of "
        f"a folder holds {CHAIN!r}; rename it"
    )

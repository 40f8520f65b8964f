"""The mission table: packaged `missions.toml`, with a user's file on top."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.toml_file import read_toml
from stage_a_pipeline.vocabulary import DATASETS, Dataset

_KEYS = ("name", "dataset", "aliases", "focus")
_UNSAFE = re.compile(r'[/\\\x00-\x1f\x7f"*?<>|:]')
"""Characters that cannot stand in a folder, partition or output file name everywhere."""

_MAX_NAME_BYTES: Final = 200
"""File systems allow 255; output files add a suffix."""


@dataclass(frozen=True, slots=True)
class Mission:
    """One inspection task: a folder of photo groups, a vocabulary, and what to look for."""

    name: str
    dataset: Dataset
    focus: str
    aliases: tuple[str, ...] = ()

    @property
    def folder_names(self) -> tuple[str, ...]:
        """The names its folder may have below the input root, the mission's own first."""
        return (self.name, *self.aliases)


class MissionTable(Mapping[str, Mission]):
    """Missions by name, ordered by name (code points), looked up in any Unicode form."""

    def __init__(self, missions: Mapping[str, Mission]) -> None:
        self._by_name = {name: missions[name] for name in sorted(missions)}

    def __getitem__(self, name: str) -> Mission:
        return self._by_name[unicodedata.normalize("NFC", name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def require(self, name: str) -> Mission:
        """The mission of that name or alias; ConfigurationError lists the known ones."""
        wanted = unicodedata.normalize("NFC", name)
        for mission in self._by_name.values():
            if wanted in mission.folder_names:
                return mission
        raise ConfigurationError(
            f"unknown mission {name!r}; known missions: {', '.join(self)}. "
            "Add others with a missions file (setting missions_file or STAGE_A_MISSIONS)."
        )


def load_missions(user_file: str | Path | None = None) -> MissionTable:
    """The packaged missions, with those of `user_file` added or overriding key by key.

    ConfigurationError when the file is missing, is not TOML, has an unknown key or a wrong type,
    an unsafe name, two missions that claim one folder, or gives a packaged mission the other dataset.
    """
    packaged = files("stage_a_pipeline").joinpath("missions.toml").read_text("utf-8")
    rows = _parse_rows(tomllib.loads(packaged), "missions.toml")
    missions = {name: _build_mission(row, "missions.toml") for name, row in rows.items()}
    if user_file is not None:
        for name, row in _read_user_file(Path(user_file)).items():
            missions[name] = _override(missions.get(name), row, str(user_file))
    _refuse_shared_folders(missions, str(user_file or "missions.toml"))
    return MissionTable(missions)


def _read_user_file(path: Path) -> dict[str, dict[str, object]]:
    remedy = "correct missions_file (STAGE_A_MISSIONS) or unset it"
    return _parse_rows(read_toml(path, what="missions file", remedy=remedy), str(path))


def _parse_rows(document: Mapping[str, object], source: str) -> dict[str, dict[str, object]]:
    unknown = set(document) - {"mission"}
    if unknown:
        raise ConfigurationError(
            f"{source}: unknown key {min(unknown)!r}; a missions file holds [[mission]] tables only"
        )
    tables = document.get("mission", [])
    if not isinstance(tables, list) or not all(isinstance(row, dict) for row in tables):
        raise ConfigurationError(f"{source}: 'mission' must be a list of tables, written [[mission]]")
    rows: dict[str, dict[str, object]] = {}
    for row in tables:
        name = _checked_name(row.get("name"), source)
        if name in rows:
            raise ConfigurationError(f"{source}: mission {name!r} is given twice")
        rows[name] = {**row, "name": name}
    return rows


def _checked_name(name: object, source: str, kind: str = "mission name") -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{source}: every {kind} must be text that is not blank, not {name!r}")
    name = unicodedata.normalize("NFC", name)
    if name != name.strip() or name.startswith(".") or _UNSAFE.search(name) or "..." in name:
        raise ConfigurationError(
            f"{source}: {kind} {name!r} cannot be a folder and partition name; "
            'leave out leading dots, surrounding blanks, "...", and / \\ : * ? " < > |'
        )
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise ConfigurationError(
            f"{source}: {kind} {name!r} is longer than {_MAX_NAME_BYTES} bytes in UTF-8, and output "
            "files could not be named after it; shorten it"
        )
    return name


def _override(known: Mission | None, row: Mapping[str, object], source: str) -> Mission:
    if known is None:
        return _build_mission(row, source)
    merged = {"dataset": known.dataset, "focus": known.focus, "aliases": list(known.aliases), **row}
    mission = _build_mission(merged, source)
    if mission.dataset != known.dataset:
        raise ConfigurationError(
            f"{source}: mission {known.name!r} belongs to dataset {known.dataset!r} and cannot be "
            f"run with the prompts of {mission.dataset!r}; remove the dataset line"
        )
    return mission


def _build_mission(row: Mapping[str, object], source: str) -> Mission:
    where = f"{source}: mission {row['name']!r}"
    unknown = sorted(set(row) - set(_KEYS))
    if unknown:
        raise ConfigurationError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(_KEYS)}")
    dataset, focus, aliases = row.get("dataset"), row.get("focus"), row.get("aliases", [])
    if dataset not in DATASETS:
        raise ConfigurationError(f"{where}: dataset must be one of {', '.join(DATASETS)}, not {dataset!r}")
    if not isinstance(focus, str) or not focus.strip():
        raise ConfigurationError(f"{where}: focus must be text that says what the group must show")
    if not isinstance(aliases, list):
        raise ConfigurationError(f"{where}: aliases must be a list of folder names")
    return Mission(
        name=str(row["name"]),
        dataset="bbu" if dataset == "bbu" else "rru",
        focus=focus.strip(),
        aliases=tuple(_checked_name(alias, where, "alias") for alias in aliases),
    )


def _refuse_shared_folders(missions: Mapping[str, Mission], source: str) -> None:
    owner: dict[str, str] = {}
    for mission in missions.values():
        for folder in mission.folder_names:
            if owner.setdefault(folder, mission.name) != mission.name:
                raise ConfigurationError(
                    f"{source}: folder {folder!r} is claimed by both {owner[folder]!r} and {mission.name!r}"
                )

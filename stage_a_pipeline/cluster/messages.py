"""What travels between the run and its actors, and from an actor to the worker beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from stage_a_pipeline import places
from stage_a_pipeline.cluster.shards import Shard
from stage_a_pipeline.inference.asking import Recipe
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.records import Group, Image, ImageRef
from stage_a_pipeline.settings import BUILTIN_CHECKPOINT, Settings
from stage_a_pipeline.settings_layers import path_settings

if TYPE_CHECKING:
    import pyarrow as pa

_ALIKE: Final = ("stage-a-pipeline", "torch", "transformers", "tokenizers", "pillow")
"""Packages whose version may change an answer, or what is said about it."""


_NOT_SENT: Final = Image(Path(), "")


@dataclass(frozen=True, slots=True)
class Brief:
    """What an actor must know of a run. Paths are absolute: actors work in other folders.

    `crashes` tells how often workers died over photos in earlier runs, as Journal.crash_counts.
    """

    name: str
    run_id: str
    settings: Settings
    recipes: Mapping[str, Recipe]
    versions: Mapping[str, str]
    crashes: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """An actor that can be given shards, and its host's name."""

    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an actor cannot go on: the kind of error, and its message, which names the host."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The outcomes of a shard, as rows of OUTCOMES, and what the actor has done so far.

    The text of an answer that the run knows is empty.
    """

    shard_id: str
    outcomes: pa.Table
    metrics: ShardMetrics


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something to pass on to people."""

    kind: Literal["warning", "log"]
    text: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """What an actor has done so far, and what it has said since it was asked last."""

    metrics: ShardMetrics
    said: tuple[Sentence, ...]


def versions_here() -> dict[str, str]:
    """The versions that must be alike on all hosts."""
    return {package: version(package) for package in _ALIKE}


def with_absolute_paths(settings: Settings) -> Settings:
    """The settings for another working directory; those that are not set stay so."""
    sections: dict[str, Any] = {}
    for section in Settings.model_fields:
        own = getattr(settings, section)
        paths = {name: getattr(own, name) for name in path_settings(Settings, section)}
        anchored: dict[str, object] = {
            name: places.absolute(path) for name, path in paths.items() if path is not None
        }
        if section == "engine" and own.checkpoint != BUILTIN_CHECKPOINT:
            folder = Path(own.checkpoint).expanduser()
            # Anything else is a hub id.
            anchored |= {"checkpoint": str(folder.absolute())} if folder.is_dir() else {}
        sections[section] = own.model_copy(update=anchored)
    return settings.model_copy(update=sections)


def for_hosts(shard: Shard) -> Shard:
    """The shard with the folders of its photos as they are called in every working directory.

    Its groups have no other photos than its own: of the others, only the places are left.
    """
    photos: dict[int, tuple[Group, dict[int, Image]]] = {}
    for ref in shard.refs:
        _, own = photos.setdefault(ref.group_index, (ref.group, {}))
        own[ref.image_index] = replace(ref.image, folder=places.absolute(ref.image.folder))
    groups = {
        place: replace(
            group, folder=places.absolute(group.folder), images=_with_gaps(own, count=len(group.images))
        )
        for place, (group, own) in photos.items()
    }
    return replace(shard, refs=tuple(replace(ref, group=groups[ref.group_index]) for ref in shard.refs))


def shard_line(shard: Shard, news: bytes) -> bytes:
    """A shard, and keys of answers that need not be asked for any more, as a line for `read_shard_line`."""
    groups = {ref.group_index: ref.group for ref in shard.refs}
    described = {
        "groups": [
            [place, group.mission, group.label, group.group_id, str(group.folder), len(group.images)]
            for place, group in groups.items()
        ],
        "photos": [
            [ref.group_index, ref.image_index, ref.image.name, _folder_of_its_own(ref)] for ref in shard.refs
        ],
        "news": base64.b64encode(news).decode(),
    }
    return json.dumps(described).encode() + b"\n"


def read_shard_line(line: bytes) -> tuple[Shard, bytes]:
    """The inverse of `shard_line`, but for photos of its groups that are not its own."""
    described = json.loads(line)
    photos: dict[int, dict[int, Image]] = {}
    groups: dict[int, Group] = {}
    folders = {place: places.as_place(folder) for place, _, _, _, folder, _ in described["groups"]}
    for place, image, name, folder in described["photos"]:
        of = folders[place] if folder is None else places.as_place(folder)
        photos.setdefault(place, {})[image] = Image(of, name)
    for place, mission, label, group_id, _, count in described["groups"]:
        images = _with_gaps(photos[place], count=count)
        groups[place] = Group(mission, label, group_id, folders[place], images)
    refs = tuple(ImageRef(place, image, groups[place]) for place, image, _, _ in described["photos"])
    return Shard(refs), base64.b64decode(described["news"])


def _with_gaps(images: Mapping[int, Image], *, count: int) -> tuple[Image, ...]:
    """So many images, those of the given places, from 1, where they belong."""
    return tuple(images.get(place, _NOT_SENT) for place in range(1, count + 1))


def _folder_of_its_own(ref: ImageRef) -> str | None:
    return None if ref.image.folder == ref.group.folder else str(ref.image.folder)

"""What travels between the run and its actors, and from an actor to the worker beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Brief:
    """What an actor must know of a run. Paths are absolute: actors work in other folders."""

    name: str
    run_id: str
    settings: Settings
    recipes: Mapping[str, Recipe]
    versions: Mapping[str, str]


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


def absolute(shard: Shard) -> Shard:
    """The shard with the folders of its photos as they are called in every working directory."""
    groups: dict[int, Group] = {}
    for ref in shard.refs:
        if ref.group_index not in groups:
            folder = places.absolute(ref.group.folder)
            images = tuple(replace(image, folder=places.absolute(image.folder)) for image in ref.group.images)
            groups[ref.group_index] = replace(ref.group, folder=folder, images=images)
    return replace(shard, refs=tuple(replace(ref, group=groups[ref.group_index]) for ref in shard.refs))


def shard_line(shard: Shard, news: bytes) -> bytes:
    """A shard, and keys of answers that need not be asked for any more, as a line for `read_shard_line`."""
    groups = {ref.group_index: ref.group for ref in shard.refs}
    described = {
        "groups": [
            [place, group.mission, group.label, group.group_id, str(group.folder), _images(group)]
            for place, group in groups.items()
        ],
        "places": [[ref.group_index, ref.image_index] for ref in shard.refs],
        "news": base64.b64encode(news).decode(),
    }
    return json.dumps(described).encode() + b"\n"


def read_shard_line(line: bytes) -> tuple[Shard, bytes]:
    """The inverse of `shard_line`."""
    described = json.loads(line)
    groups = {place: _group(*fields) for place, *fields in described["groups"]}
    refs = tuple(ImageRef(place, image, groups[place]) for place, image in described["places"])
    return Shard(refs), base64.b64decode(described["news"])


def _images(group: Group) -> list[list[str]]:
    return [[str(image.folder), image.name] for image in group.images]


def _group(mission: str, label: Any, group_id: str, folder: str, images: list[list[str]]) -> Group:
    found = tuple(Image(places.as_place(place), name) for place, name in images)
    return Group(mission, label, group_id, places.as_place(folder), found)

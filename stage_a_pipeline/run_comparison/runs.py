"""The delivered files of a run: those of a folder, or of one mission."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import InputError, StoreError
from stage_a_pipeline.input_root import normalised
from stage_a_pipeline.jsonl import Manifest, OutputPaths, read_records
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import child_path, objects, open_to_read

_ENDING: Final = "_stage_a.jsonl"
_REJECTED: Final = ".rejected.jsonl"
_REMEDY: Final = f"give an output folder of the pipeline, or one <mission>{_ENDING}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run has delivered, by mission, sorted."""

    place: Place
    missions: Mapping[str, OutputPaths]


def open_run(place: Place) -> Run:
    """The run in an output folder, or the one of a single JSONL, whose other files lie beside it.

    InputError where there is neither, StoreError for a store that fails; RecordError where the mission of a
    file is asked of its first line and that is broken.
    """
    try:
        names = _names_in(place)
    except NotADirectoryError:
        return Run(place, _single(place))
    except OSError as error:
        if not isinstance(place, Path) and not isinstance(error, FileNotFoundError):
            raise StoreError(
                f"{place} cannot be listed: {error.strerror}; check the network and the credentials"
            ) from error
        raise InputError(f"run {place} cannot be read: {error.strerror or error}; {_REMEDY}") from error
    delivered = sorted(name for name in names if name.endswith(_ENDING) and name != _ENDING)
    if not delivered:
        raise InputError(f"run {place} has delivered nothing: no file in it ends with {_ENDING}; {_REMEDY}")
    return Run(
        place,
        {normalised(name.removesuffix(_ENDING)): _files_of(child_path(place, name)) for name in delivered},
    )


def common_missions(before: Run, after: Run, wanted: Sequence[str] = ()) -> list[str]:
    """The missions to compare: those that both runs have delivered, or the wanted ones.

    InputError where there is none, where a run lacks a wanted one, and where both runs are one.
    """
    for mission in map(normalised, wanted):
        for run in (before, after):
            if mission not in run.missions:
                raise InputError(
                    f"run {run.place} has not delivered mission {mission}; it has {_listed(run)}"
                )
    common = [name for name in before.missions if name in after.missions]
    if not common:
        raise InputError(
            f"the two runs have no mission in common: {before.place} has {_listed(before)}, "
            f"{after.place} has {_listed(after)}; give two runs of the same mission"
        )
    chosen = [name for name in common if not wanted or name in set(map(normalised, wanted))]
    for name in chosen:
        if _is_same_file(before.missions[name].jsonl, after.missions[name].jsonl):
            raise InputError(
                f"both runs are the same: {before.missions[name].jsonl} would be compared with itself; give "
                "the run before the change and the one after it, kept in different folders"
            )
    return chosen


def is_described(file: Place, manifest: Manifest) -> bool:
    """Whether the file is, byte for byte, the one of the manifest, under whatever name both are kept."""
    is_rejected = file.name.endswith(_REJECTED)
    described = [digest for name, digest in manifest.files.items() if name.endswith(_REJECTED) is is_rejected]
    with open_to_read(file) as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    return any(digest.sha256 == found for digest in described)


def _single(jsonl: Place) -> dict[str, OutputPaths]:
    first = next(islice(read_records(jsonl), 1), None)
    mission = first.mission if first is not None else jsonl.name.removesuffix(_ENDING)
    return {normalised(mission): _files_of(jsonl)}


def _files_of(jsonl: Place) -> OutputPaths:
    stem = jsonl.name.removesuffix(".jsonl")
    folder = jsonl.parent
    return OutputPaths(jsonl, folder / f"{stem}{_REJECTED}", folder / f"{stem}.manifest.json")


def _names_in(place: Place) -> list[str]:
    if isinstance(place, Path):
        return os.listdir(place)  # noqa: PTH208 - tells NotADirectoryError from a folder that is not there
    return [name for name, is_folder in objects.children(place) if not is_folder]


def _is_same_file(first: Place, second: Place) -> bool:
    if isinstance(first, Path) and isinstance(second, Path):
        return first.exists() and second.exists() and first.samefile(second)
    return first == second


def _listed(run: Run) -> str:
    return ", ".join(run.missions)

"""PURE: what was changed between two runs, as their manifests tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.jsonl import Manifest

_FIRST: Final = ("prompt_hash", "fingerprint", "engine.checkpoint", "engine.adapter", "engine.", "prompts.")
"""What shapes answers comes first; the fingerprint is over all of that."""
_PLACES: Final = (
    "output.output_dir",
    "output.local_work_dir",
    "output.prometheus_dir",
    "inference.lease_dir",
)
"""Where results and working files lie: different on purpose."""


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting, version, hash or count that differs; None where a run has none.

    Other values are texts, or as JSON has them; `unset` is what was left open.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What differs between two manifests, and the same in a sentence: None where one is missing."""

    changes: tuple[SettingChange, ...]
    sentence: str


def run_changes(before: Manifest, after: Manifest) -> RunChanges:
    """What differs between the manifests of two runs, what shapes answers first."""
    first, second = dict(_facts(before)), dict(_facts(after))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    changes = tuple(
        SettingChange(name, first.get(name), second.get(name)) for name in sorted(names, key=_place)
    )
    return RunChanges(changes, _sentence(before, after, names))


def _sentence(before: Manifest, after: Manifest, names: list[str]) -> str:
    if before.fingerprint == after.fingerprint:
        return "nothing that shapes answers was changed: the fingerprints are equal"
    shaping = [name for name in names if name.startswith(("engine.", "prompts.")) or name == "prompt_hash"]
    if shaping:
        return f"changed, of what may shape answers: {', '.join(sorted(shaping, key=_place))}"
    return (
        "the fingerprints differ, and no prompt or setting does: what lies under the same name, such as the "
        "checkpoint's files, was changed, or the version of this program"
    )


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "prompt_hash", manifest.prompt_hash
    yield "fingerprint", manifest.fingerprint
    for name, value in _leaves(manifest.settings):
        if name not in _PLACES:
            yield name, _shown(value)
    yield from ((f"versions.{name}", version) for name, version in manifest.versions.items())


def _leaves(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _place(name: str) -> tuple[int, str]:
    found = (place for place, start in enumerate(_FIRST) if name.startswith(start))
    return next(found, len(_FIRST)), name

"""Settings from several sources laid over one another, and errors that name the source."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError

Sources = Mapping[tuple[int | str, ...], str]
"""Which source a section or a key of it was last set by, under `(section,)` or `(section, key)`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Sections of settings as one source gives them, not yet checked; `source` names it in messages."""

    source: str
    values: Mapping[str, object]


def merge_layers(layers: Iterable[Layer]) -> tuple[dict[str, object], Sources]:
    """The sections key by key, later layers winning, and where each comes from."""
    merged: dict[str, object] = {}
    sources: dict[tuple[int | str, ...], str] = {}
    for layer in layers:
        for section, values in layer.values.items():
            below = merged.get(section, {})
            if values == {} and section in merged:
                continue
            if isinstance(values, Mapping) and isinstance(below, Mapping):
                merged[section] = {**below, **values}
                sources |= {(section, key): layer.source for key in values}
            else:
                merged[section] = values
            sources[section,] = layer.source
    return merged, sources


def explain(error: ValidationError, sources: Sources, model: type[BaseModel]) -> str:
    """What is wrong with each setting, where it was set, and what is known in its place."""
    details = error.errors(include_url=False)
    # A list with a wrong entry is reported as too short as well: the entry is what needs telling.
    inner = {detail["loc"][:-1] for detail in details if detail["loc"]}
    told: dict[tuple[int | str, ...], dict[str, object]] = {}
    for detail in details:
        # Of a setting that may be one type or another, each reports, and puts its name behind the setting's.
        place = detail["loc"][:2] + tuple(step for step in detail["loc"][2:] if isinstance(step, int))
        if place in told:
            told[place]["msg"] = f"{told[place]['msg']}, or: {detail['msg']}"
        elif detail["loc"] not in inner:
            told[place] = {**detail, "loc": place}
    return "; ".join(_explain_one(detail, sources, model) for detail in told.values())


def suggestion(wrong: str, known: Sequence[str]) -> str:
    """The known names, after the one that was probably meant."""
    close = difflib.get_close_matches(wrong, known, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known)}"


def path_settings(model: type[BaseModel], section: str) -> set[str]:
    """The settings of a section that are paths."""
    return {name for name, kind in _kinds(model, section).items() if _holds(kind, Path)}


def _kinds(model: type[BaseModel], section: object) -> dict[str, object]:
    """Names of a section's settings with their types; none for a section that the model has not."""
    field = model.model_fields.get(str(section))
    kind = field.annotation if field is not None else None
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {name: info.annotation for name, info in kind.model_fields.items()}


def _holds(kind: object, wanted: type) -> bool:
    return kind is wanted or any(_holds(part, wanted) for part in get_args(kind))


def _explain_one(detail: Mapping[str, object], sources: Sources, model: type[BaseModel]) -> str:
    location = detail["loc"]
    assert isinstance(location, tuple)
    if not location:
        # Sections that do not fit together: the message names their settings.
        return str(detail["msg"]).removeprefix("Value error, ")
    source = sources.get(location[:2]) or sources.get(location[:1])
    where, name = f"{source}: " if source else "", ".".join(map(str, location))
    if detail["type"] == "extra_forbidden":
        known = _kinds(model, location[0]) if location[1:] else model.model_fields
        return f"{where}unknown setting {name!r}; {suggestion(str(location[-1]), list(known))}"
    given = detail.get("input")
    is_secret = location[1:] and _holds(_kinds(model, location[0]).get(str(location[1])), SecretStr)
    is_plain = isinstance(given, str | int | float | bool) and not is_secret
    shown = f" (given: {_without_secrets(given)})" if is_plain else ""
    return f"{where}setting {name}: {str(detail['msg']).removeprefix('Value error, ')}{shown}"


def _without_secrets(given: object) -> str:
    """The value as text, without credentials that a URL in it may hold."""
    return re.sub(r"(://).*@", r"\1...@", repr(given))

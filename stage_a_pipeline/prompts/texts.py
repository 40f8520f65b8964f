"""Prompt texts of a TOML file: one profile, its texts by key, and their placeholders filled in."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.toml_file import read_toml


@dataclass(frozen=True, slots=True)
class ProfileTexts:
    """The texts of one profile of `source`."""

    source: str
    profile: str
    node: object

    def text(self, *keys: str) -> str:
        """The text under these keys; ConfigurationError where it is missing or blank."""
        node, place = self.node, self._place(*keys)
        for key in keys:
            if not isinstance(node, Mapping) or key not in node:
                raise ConfigurationError(f"{self.source}: prompt text {place} is missing")
            node = node[key]
        if not isinstance(node, str) or not node.strip():
            raise ConfigurationError(f"{self.source}: prompt text {place} must be text that is not blank")
        return node.strip()

    def filled(self, *keys: str, **values: object) -> str:
        """The text under these keys with `values` in place of their names in braces.

        ConfigurationError for other braces in the text; those in values stay as they are.
        """
        text = self.text(*keys)
        try:
            return text.format(**values)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            names = " and ".join(f"{{{name}}}" for name in values)
            raise ConfigurationError(
                f"{self.source}: {self._place(*keys)} may hold only {names} in braces ({error})"
            ) from error

    def _place(self, *keys: str) -> str:
        return ".".join((self.profile, *keys))


def load_profile(
    packaged: str, profile: str, *, prompts_file: str | Path | None, setting: str
) -> ProfileTexts:
    """A profile of `prompts_file`, or where that is None, of the `packaged` file.

    ConfigurationError for a file that cannot be used, which the remedy calls by its `setting`, and
    for an unknown profile.
    """
    if prompts_file is None:
        texts, source = _packaged_texts(packaged), packaged
    else:
        remedy = f"correct {setting} or unset it"
        texts, source = read_toml(Path(prompts_file), what="prompts file", remedy=remedy), str(prompts_file)
    if profile not in texts:
        raise ConfigurationError(f"{source}: unknown prompt profile {profile!r}; known: {', '.join(texts)}")
    return ProfileTexts(source, profile, texts[profile])


def names_in_braces(text: str) -> set[str]:
    """The placeholders of a text that can be filled in."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@cache
def _packaged_texts(name: str) -> Mapping[str, Any]:
    return tomllib.loads(files("stage_a_pipeline.prompts").joinpath(name).read_text("utf-8"))

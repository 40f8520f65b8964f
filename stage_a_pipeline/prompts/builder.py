"""From the prompt texts and a mission to the system and user message of one photo."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.settings import DEFAULT_PROFILE
from stage_a_pipeline.toml_file import read_toml


@dataclass(frozen=True, slots=True)
class Prompt:
    """The texts around one photo: a system message, and the user text that follows the photo, or stands
    before it."""

    system: str
    user: str
    text_before_image: bool = False


def build_prompt(
    mission: Mission,
    *,
    profile: str = DEFAULT_PROFILE,
    prompts_file: str | Path | None = None,
    text_before_image: bool = False,
) -> Prompt:
    """The prompt of a mission.

    System: task base and not-on-site rule. User: instruction, scene block of the mission's dataset,
    mission focus. ConfigurationError names a missing profile, text or scene block.
    """
    texts, source = _load_texts(prompts_file)
    if profile not in texts:
        raise ConfigurationError(f"{source}: unknown prompt profile {profile!r}; known: {', '.join(texts)}")
    node = texts[profile]
    system = [_text(node, source, profile, "system", key) for key in ("task", "not_on_site")]
    focus = _text(node, source, profile, "user", "focus")
    try:
        focus = focus.format(mission=mission.name, focus=mission.focus)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"{source}: {profile}.user.focus may hold only {{mission}} and {{focus}} in braces ({error})"
        ) from error
    user = [
        _text(node, source, profile, "user", "instruction"),
        _text(node, source, profile, "user", "scene", mission.dataset),
        focus,
    ]
    return Prompt("\n".join(system), "\n".join(user), text_before_image)


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 of texts and place of the photo: part of the fingerprint under which answers are remembered."""
    parts = [prompt.system, prompt.user, *(["text before image"] if prompt.text_before_image else [])]
    payload = json.dumps(parts, ensure_ascii=False).encode()
    return hashlib.sha256(payload).hexdigest()


def _load_texts(prompts_file: str | Path | None) -> tuple[Mapping[str, object], str]:
    if prompts_file is None:
        packaged = files("stage_a_pipeline.prompts").joinpath("stage_a.toml").read_text("utf-8")
        return tomllib.loads(packaged), "stage_a.toml"
    remedy = "correct prompts.prompts_file or unset it"
    return read_toml(Path(prompts_file), what="prompts file", remedy=remedy), str(prompts_file)


def _text(node: object, source: str, *keys: str) -> str:
    for key in keys[1:]:
        if not isinstance(node, Mapping) or key not in node:
            raise ConfigurationError(f"{source}: prompt text {'.'.join(keys)} is missing")
        node = node[key]
    if not isinstance(node, str) or not node.strip():
        raise ConfigurationError(f"{source}: prompt text {'.'.join(keys)} must be text that is not blank")
    return node.strip()

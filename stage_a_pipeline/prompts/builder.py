"""From the prompt texts and a mission to the system and user message of one photo."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts.texts import load_profile
from stage_a_pipeline.settings import DEFAULT_PROFILE


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
    texts = load_profile("stage_a.toml", profile, prompts_file=prompts_file, setting="prompts.prompts_file")
    system = [texts.text("system", key) for key in ("task", "not_on_site")]
    user = [
        texts.text("user", "instruction"),
        texts.text("user", "scene", mission.dataset),
        texts.filled("user", "focus", mission=mission.name, focus=mission.focus),
    ]
    return Prompt("\n".join(system), "\n".join(user), text_before_image)


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 of texts and place of the photo: part of the fingerprint under which answers are remembered."""
    parts = [prompt.system, prompt.user, *(["text before image"] if prompt.text_before_image else [])]
    payload = json.dumps(parts, ensure_ascii=False).encode()
    return hashlib.sha256(payload).hexdigest()

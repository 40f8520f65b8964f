"""Stage-B's prompt and answer: from the summaries of a group's photos to a verdict of two lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts.builder import Prompt
from stage_a_pipeline.prompts.texts import ProfileTexts, load_profile, names_in_braces
from stage_a_pipeline.records import Label
from stage_a_pipeline.settings_grpo import DEFAULT_VERDICT_PROFILE

BRIEF_PROFILE: Final = "brief"
"""The packaged profile that the built-in checkpoint was taught with."""

_PACKAGED: Final = "stage_b.toml"


@dataclass(frozen=True, slots=True)
class VerdictTexts:
    """The texts of one profile, read once for many groups."""

    texts: ProfileTexts

    def prompt(self, mission: Mission, summaries: Sequence[str]) -> Prompt:
        """The prompt of a group. ConfigurationError names a text that is missing or has stray braces."""
        task = self.texts.filled("user", "task", mission=mission.name, focus=mission.focus)
        lines = [
            self.texts.filled("user", "image", number=number, summary=summary)
            for number, summary in enumerate(summaries, start=1)
        ]
        return Prompt(self.texts.text("system", mission.dataset), "\n".join([task, *lines]))


def load_verdict_texts(
    profile: str = DEFAULT_VERDICT_PROFILE, prompts_file: str | Path | None = None
) -> VerdictTexts:
    """A profile of `prompts_file`, or of the packaged texts.

    ConfigurationError for a file that cannot be used, an unknown profile, and an image line that
    would leave out the summary or the number by which a reason refers to it.
    """
    texts = load_profile(_PACKAGED, profile, prompts_file=prompts_file, setting="grpo.prompts_file")
    texts.filled("user", "image", number=1, summary="")
    if not {"number", "summary"} <= names_in_braces(texts.text("user", "image")):
        raise ConfigurationError(f"{texts.source}: {profile}.user.image must hold {{number}} and {{summary}}")
    return VerdictTexts(texts)


def verdict_prompt(
    mission: Mission,
    summaries: Sequence[str],
    *,
    profile: str = DEFAULT_VERDICT_PROFILE,
    prompts_file: str | Path | None = None,
) -> Prompt:
    """The prompt of one group.

    System: the judge's task, by the mission's dataset. User: mission, focus and form of the answer,
    then a line per photo. Raises what `load_verdict_texts` and `VerdictTexts.prompt` raise.
    """
    return load_verdict_texts(profile, prompts_file).prompt(mission, summaries)


def verdict_answer(label: Label, reasons: Sequence[str]) -> str:
    """The two lines of a verdict; without reasons, that there is no fault."""
    texts = load_profile(_PACKAGED, BRIEF_PROFILE, prompts_file=None, setting="grpo.prompts_file")
    word = texts.text("answer", f"{label}_word")
    told = texts.text("answer", "reason_separator").join(reasons) or texts.text("answer", "no_fault")
    return texts.filled("answer", "lines", verdict=word, reasons=told)

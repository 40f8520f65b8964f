"""Stage-B's prompt and answer: from the summaries of a group's photos to a verdict of two lines."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts.builder import Prompt
from stage_a_pipeline.records import Label


def verdict_prompt(mission: Mission, summaries: Sequence[str]) -> Prompt:
    """The prompt for a group: the mission, then one line per photo."""
    texts = _texts()
    lines = [texts["task"].format(mission=mission.name, focus=mission.focus)]
    for number, summary in enumerate(summaries, start=1):
        lines.append(texts["image_line"].format(number=number, summary=summary))
    return Prompt(system=texts["system"], user="\n".join(lines))


def verdict_answer(label: Label, reasons: Sequence[str]) -> str:
    """The two lines of a verdict; without reasons, that there is no fault."""
    texts = _texts()
    word = texts["pass_word"] if label == "pass" else texts["fail_word"]
    return texts["answer"].format(
        verdict=word, reasons=texts["reason_separator"].join(reasons) or texts["no_fault"]
    )


@cache
def _texts() -> Mapping[str, str]:
    packaged = files("stage_a_pipeline.prompts").joinpath("stage_b.toml").read_text("utf-8")
    texts: dict[str, str] = tomllib.loads(packaged)["verdict"]
    return MappingProxyType(texts)

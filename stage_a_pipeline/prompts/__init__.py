"""Prompt texts as data, and the builders that fill them for one mission."""

from stage_a_pipeline.prompts.builder import Prompt, build_prompt, prompt_hash
from stage_a_pipeline.prompts.verdict import (
    BRIEF_PROFILE,
    VerdictTexts,
    load_verdict_texts,
    verdict_answer,
    verdict_prompt,
)

__all__ = [
    "BRIEF_PROFILE",
    "Prompt",
    "VerdictTexts",
    "build_prompt",
    "load_verdict_texts",
    "prompt_hash",
    "verdict_answer",
    "verdict_prompt",
]

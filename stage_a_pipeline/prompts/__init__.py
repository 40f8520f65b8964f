"""Prompt texts as data, and the builders that fill them for one mission."""

from stage_a_pipeline.prompts.builder import Prompt, build_prompt, prompt_hash
from stage_a_pipeline.prompts.verdict import verdict_answer, verdict_prompt

__all__ = ["Prompt", "build_prompt", "prompt_hash", "verdict_answer", "verdict_prompt"]

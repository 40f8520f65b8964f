"""Prompt texts as data, and the builder that fills them for one mission."""

from stage_a_pipeline.prompts.builder import Prompt, build_prompt, prompt_hash

__all__ = ["Prompt", "build_prompt", "prompt_hash"]

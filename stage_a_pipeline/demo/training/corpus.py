"""The texts that the demonstration model reads and writes: what its tokenizer is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.groups import compose_group
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts import BRIEF_PROFILE, build_prompt, verdict_answer, verdict_prompt
from stage_a_pipeline.records import LABELS


def tokenizer_corpus(missions: list[Mission], *, scenes: int = 1500, groups: int = 400) -> Iterator[str]:
    """Summaries, verdicts, and the prompts so often that each becomes a few tokens."""
    rng = Random("tokenizer corpus")
    for number in range(scenes):
        mission = missions[number % len(missions)]
        yield compose_scene(rng, mission, irrelevant_chance=0.08, sound_chance=0.6).summary
    for number in range(groups):
        mission = missions[number % len(missions)]
        group = compose_group(rng, mission, wanted=rng.choice(LABELS), size=rng.randint(1, 4))
        prompt = verdict_prompt(mission, [scene.summary for scene in group.scenes], profile=BRIEF_PROFILE)
        yield f"{prompt.system}\n{prompt.user}\n{verdict_answer(group.verdict.label, group.verdict.reasons)}"
    for mission in missions * 60:
        prompt = build_prompt(mission)
        yield f"system\n{prompt.system}\nuser\n{prompt.user}\nassistant\n"

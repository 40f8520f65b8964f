"""A look at what training would see: data, model, layers, answers and rewards, and nothing trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.answer import VERDICT_WORDS
from stage_a_pipeline.stage_b.answers import Counted, Sampling, text_answers
from stage_a_pipeline.stage_b.architecture import read_architecture
from stage_a_pipeline.stage_b.layers import LayerSelection, select_last_blocks
from stage_a_pipeline.stage_b.material import Material
from stage_a_pipeline.stage_b.rewards import VERDICT_REWARDS, combine_rewards
from stage_a_pipeline.stage_b.tickets import Ticket
from stage_a_pipeline.stage_b.training import (
    require_devices,
    require_trainable,
    require_whole_step,
)
from stage_a_pipeline.storage import atomic_write, ensure_folder

COMPLETIONS: Final = "completions.jsonl"
_SAMPLES: Final = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and what it earns: each reward by name, and their weighted sum as `combined`."""

    group_id: str
    task_type: str
    group_label: str
    generation_index: int
    response: str
    rewards: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What was found: the blocks that would be trained, and the file of answers with their rewards."""

    selection: LayerSelection
    completions: Path
    lines: tuple[Answer, ...]


def dry_run(settings: Settings, material: Material, *, progress: Counted | None = None) -> DryRun:
    """Check checkpoint and layers, and write the rewards of sampled answers to two tickets.

    Writes `completions.jsonl` into Stage-B's folder: one line per answer. Raises what training would raise
    before its first step.
    """
    checkpoint = require_trainable(settings)
    require_devices(settings)
    require_whole_step(settings, material)
    selection = select_last_blocks(read_architecture(checkpoint).module_names, settings.grpo.lora_last_k)
    tickets = _samples(material.train)
    repeated = [ticket for ticket in tickets for _ in range(settings.grpo.num_generations)]
    grpo = settings.grpo
    answer = text_answers(
        settings.engine,
        max_new_tokens=grpo.max_new_tokens,
        sampling=Sampling(grpo.temperature, grpo.top_p, grpo.seed),
        progress=progress,
    )
    path = ensure_folder(settings.stage_b_dir) / COMPLETIONS
    lines = tuple(_lines(repeated, answer(material.prompts(repeated)), settings))
    with atomic_write(path) as file:
        file.writelines(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    return DryRun(selection, path, lines)


def _samples(tickets: Sequence[Ticket]) -> list[Ticket]:
    """One ticket of each label where there are both, else the first two."""
    first = {ticket.label: ticket for ticket in reversed(tickets)}
    both = [first[label] for label in VERDICT_WORDS if label in first]
    return both if len(both) == _SAMPLES else list(tickets[:_SAMPLES])


def _lines(tickets: Sequence[Ticket], answers: Sequence[str], settings: Settings) -> Iterator[Answer]:
    columns = {
        "group_label": [VERDICT_WORDS[ticket.label] for ticket in tickets],
        "stage_a_summaries": [list(ticket.summaries) for ticket in tickets],
    }
    rewards = {name: reward(answers, **columns) for name, reward in VERDICT_REWARDS.items()}
    combined = combine_rewards(list(rewards.values()), settings.grpo.reward_weights)
    for row, (ticket, response) in enumerate(zip(tickets, answers, strict=True)):
        yield Answer(
            group_id=ticket.group_id,
            task_type=ticket.mission,
            group_label=VERDICT_WORDS[ticket.label],
            generation_index=row % settings.grpo.num_generations,
            response=response,
            rewards={name: values[row] for name, values in rewards.items()} | {"combined": combined[row]},
        )

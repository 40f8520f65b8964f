"""Tickets as the Hugging Face dataset that a GRPO trainer takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upath import UPath

from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.places import Place, as_place
from stage_a_pipeline.prompts import load_verdict_texts
from stage_a_pipeline.settings_grpo import DEFAULT_VERDICT_PROFILE
from stage_a_pipeline.stage_b.answer import VERDICT_WORDS
from stage_a_pipeline.stage_b.tickets import Ticket, read_tickets

if TYPE_CHECKING:
    from datasets import Dataset

_LOG: Final = logging.getLogger(__name__)

COLUMNS: Final = ("group_id", "task_type", "group_label", "stage_a_summaries", "prompt", "ticket_key")
"""The columns of the dataset, in their order."""


def load_stage_a_for_grpo(
    paths: str | Place | Sequence[str | Place],
    *,
    missions: MissionTable | None = None,
    only: Sequence[str] = (),
    profile: str = DEFAULT_VERDICT_PROFILE,
    prompts_file: str | Path | None = None,
) -> Dataset:
    """The tickets of canonical JSONL files as a dataset, in the order of files and lines.

    `missions` is the packaged table where it is left out. Skipped lines are logged as a warning.
    Raises what `read_tickets` raises, and ConfigurationError for prompt texts that cannot be used.
    """
    table = load_missions() if missions is None else missions
    given = [paths] if isinstance(paths, str | Path | UPath) else paths
    places = [as_place(path) if isinstance(path, str) else path for path in given]
    found = read_tickets(places, missions=table, only=only)
    for sentence in found.sentences():
        _LOG.warning(sentence)
    return tickets_to_dataset(found.tickets, missions=table, profile=profile, prompts_file=prompts_file)


def tickets_to_dataset(
    tickets: Sequence[Ticket],
    *,
    missions: MissionTable,
    profile: str = DEFAULT_VERDICT_PROFILE,
    prompts_file: str | Path | None = None,
) -> Dataset:
    """One row per ticket, in memory alone; `prompt` is a chat of a system and a user message.

    ConfigurationError for prompt texts that cannot be used, or a ticket of a mission not in the table.
    """
    import datasets

    texts = load_verdict_texts(profile, prompts_file)
    prompts = [texts.prompt(missions.require(ticket.mission), ticket.summaries) for ticket in tickets]
    rows = {
        "group_id": [ticket.group_id for ticket in tickets],
        "task_type": [ticket.mission for ticket in tickets],
        "group_label": [VERDICT_WORDS[ticket.label] for ticket in tickets],
        "stage_a_summaries": [list(ticket.summaries) for ticket in tickets],
        "prompt": [
            [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
            for prompt in prompts
        ],
        "ticket_key": [ticket.ticket_key for ticket in tickets],
    }
    text = datasets.Value("string")
    features = dict.fromkeys(COLUMNS, text) | {
        # Lists, since a struct of keys would give every group the photos of the largest.
        "stage_a_summaries": datasets.List(text),
        "prompt": datasets.List({"role": text, "content": text}),
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

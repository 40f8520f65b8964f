"""What Stage-B works with: the tickets of the settings' files, which of them teach, and which judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.prompts import Prompt, VerdictTexts, load_verdict_texts
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.split import Split, balance_tickets, split_tickets
from stage_a_pipeline.stage_b.survey import Survey, survey_tickets
from stage_a_pipeline.stage_b.tickets import Ticket, Tickets, read_tickets
from stage_a_pipeline.storage import exists


@dataclass(frozen=True, slots=True)
class Material:
    """All tickets of the files, their split, and `train`: those to learn from, balanced on request.

    `remarks` are what a person should know of them.
    """

    files: tuple[Place, ...]
    found: Tickets
    split: Split
    train: tuple[Ticket, ...]
    survey: Survey
    missions: MissionTable
    texts: VerdictTexts
    remarks: tuple[str, ...]

    def prompts(self, tickets: Sequence[Ticket]) -> list[Prompt]:
        """One prompt per ticket."""
        return [self.texts.prompt(self.missions[ticket.mission], ticket.summaries) for ticket in tickets]

    def content_hash(self) -> str:
        """SHA-256 of what training and judging see: tickets, labels and prompts, in their order."""
        rows = [
            [side, ticket.mission, ticket.ticket_key, prompt.system, prompt.user]
            for side, tickets in (("train", self.train), ("held out", self.split.held_out))
            for ticket, prompt in zip(tickets, self.prompts(tickets), strict=True)
        ]
        return sha256(json.dumps(rows).encode()).hexdigest()

    def to_mapping(self) -> dict[str, object]:
        """What the tickets are, as plain JSON data."""
        return {
            "files": [str(file) for file in self.files],
            "skipped": dict(self.found.skipped_counts()),
            "train": len(self.split.train),
            "train_repeated": len(self.train) - len(self.split.train),
            "held_out": len(self.split.held_out),
            **self.survey.to_mapping(),
        }


def gather_material(settings: Settings, *, for_training: bool = True) -> Material:
    """The tickets of `grpo.files`, or of the canonical JSONL files in the output folder.

    Where nothing is to be trained, all of them may judge. Raises InputError where there is no ticket, and
    ConfigurationError for missions or prompt texts that cannot be used.
    """
    grpo = settings.grpo
    missions = load_missions(settings.discovery.missions_file)
    texts = load_verdict_texts(grpo.profile, grpo.prompts_file)
    files = grpo.files or tuple(_delivered(settings, missions))
    found = read_tickets(files, missions=missions, only=grpo.missions)
    split = Split(train=(), held_out=found.tickets)
    if for_training:
        split = split_tickets(found.tickets, held_out_fraction=grpo.held_out_fraction, seed=grpo.seed)
    survey = survey_tickets(found.tickets)
    remarks = [*found.sentences(), *survey.sentences()]
    train = split.train
    if grpo.balance == "label":
        balanced = balance_tickets(train, seed=grpo.seed)
        train = balanced.tickets
        remarks += balanced.sentences()
    return Material(files, found, split, train, survey, missions, texts, tuple(remarks))


def _delivered(settings: Settings, missions: MissionTable) -> Iterator[Place]:
    """The canonical JSONL files that Stage-A has delivered."""
    output_dir = settings.output.output_dir
    found = [path for name in missions if exists(path := output_paths(output_dir, name).jsonl)]
    if not found:
        raise InputError(
            f"{output_dir} holds no canonical JSONL of a known mission; run Stage-A first, or name files "
            "(grpo.files, --data)"
        )
    yield from found

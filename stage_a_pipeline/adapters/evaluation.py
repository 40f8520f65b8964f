"""An adapter of Stage-B beside its checkpoint: verdicts on tickets it has not seen, and what Stage-A kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.adapters.summaries import compare_with_adapter
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.errors import CheckpointError, InputError
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.inference.devices import leased, list_workers
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.accuracy_picture import accuracy_picture
from stage_a_pipeline.stage_b.answers import text_answers
from stage_a_pipeline.stage_b.confusion_picture import confusion_picture
from stage_a_pipeline.stage_b.material import Material, gather_material
from stage_a_pipeline.stage_b.metrics_file import StepMetrics, read_metrics
from stage_a_pipeline.stage_b.reward_picture import reward_picture
from stage_a_pipeline.stage_b.run_folder import ADAPTER, METRICS, RECORD, read_record, trained_ids
from stage_a_pipeline.stage_b.scores import Comparison, compare_answers
from stage_a_pipeline.stage_b.summary_quality import SummaryQuality
from stage_a_pipeline.stage_b.suspects import Suspects, find_suspects
from stage_a_pipeline.stage_b.tickets import Ticket
from stage_a_pipeline.stage_b.training import require_trainable
from stage_a_pipeline.storage import atomic_write, claim_output, ensure_folder

DOCUMENT: Final = "evaluation.json"


@dataclass(frozen=True, slots=True)
class AdapterEvaluation:
    """An adapter's verdicts beside its checkpoint's, and Stage-A with it beside without it.

    `record` is what its training wrote down, None for an adapter of another trainer; `best_accuracy` what
    any rule over summaries could reach on all tickets of the files.
    """

    adapter: Path
    record: Mapping[str, object] | None
    verdicts: Comparison
    suspects: Suspects
    best_accuracy: float
    summaries: SummaryQuality | None
    metrics: tuple[StepMetrics, ...]

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        training = None
        if self.record is not None:
            kept = ("training", "checkpoint", "steps", "blocks", "depth", "frozen_before", "frozen_after")
            training = {key: self.record.get(key) for key in kept}
        return {
            "adapter": str(self.adapter),
            "training": training,
            "verdicts": self.verdicts.to_mapping(),
            "suspected_labels": self.suspects.to_mapping(),
            "best_accuracy": self.best_accuracy,
            "stage_a": None if self.summaries is None else self.summaries.to_mapping(),
        }

    def pictures(self) -> dict[str, str]:
        """The pictures by name, as SVG documents."""
        return {
            "accuracy": accuracy_picture(self.verdicts),
            "confusion": confusion_picture(self.verdicts.total, title="Verdicts on held-out tickets"),
            "rewards": reward_picture(self.metrics),
        }


def evaluate_adapter(settings: Settings, adapter: Path | None, audience: Audience) -> AdapterEvaluation:
    """Evaluate an adapter, or the one trained last, on all tickets whose ids it was not trained on.

    Raises InputError where there is no adapter or no such ticket, CheckpointError for an adapter of another
    checkpoint, and what the engines raise.
    """
    bare = require_trainable(settings)
    # Not the link: a training that ends meanwhile leads it elsewhere, and this waits for trainings.
    folder = Path(os.path.realpath(adapter or settings.stage_b_dir / ADAPTER))
    record = read_record(folder) if adapter is None or (folder / RECORD).exists() else None
    resolve_checkpoint(settings.engine.checkpoint, adapter=folder)
    if record is not None and record.get("checkpoint") != bare.content_hash():
        raise CheckpointError(
            f"adapter {folder} was trained on another checkpoint than {settings.engine.checkpoint}; set "
            "engine.checkpoint to that one, or train again"
        )
    material = gather_material(settings, for_training=record is None)
    tickets = _unseen(material, folder, record, audience)
    # Before hours of asking: a folder that cannot be.
    ensure_folder(settings.stage_b_dir)
    worker = list_workers(settings.engine.devices)[0]
    with leased(worker, settings.inference.lease_dir, on_wait=audience.notice):
        before, after = (
            _verdicts(settings, material, tickets, merged, audience) for merged in (None, folder)
        )
    summaries = compare_with_adapter(settings, tickets, folder, material.missions, audience)
    samples, seed = settings.grpo.bootstrap_samples, settings.grpo.seed
    return AdapterEvaluation(
        adapter=folder,
        record=record,
        verdicts=compare_answers(tickets, before, after, samples=samples, seed=seed),
        suspects=find_suspects(tickets, after),
        best_accuracy=material.survey.best_accuracy,
        summaries=summaries,
        metrics=_metrics(folder, record),
    )


def write_evaluation(folder: Path, evaluation: AdapterEvaluation, *, run_id: str) -> tuple[Path, ...]:
    """Write the scores and the pictures into a folder; returns their paths, the scores' first.

    LockedError while another run writes its own there: files of two would not belong together.
    """
    document = json.dumps(evaluation.to_mapping(), ensure_ascii=False, allow_nan=False, indent=2)
    contents = {DOCUMENT: f"{document}\n"}
    contents |= {f"evaluation.{name}.svg": picture for name, picture in evaluation.pictures().items()}
    what = "the evaluation of Stage-B"
    with claim_output(folder, "evaluation", run_id=run_id, purpose="write an evaluation", what=what):
        for name, content in contents.items():
            with atomic_write(folder / name) as file:
                file.write(content)
    return tuple(folder / name for name in contents)


def _unseen(
    material: Material, adapter: Path, record: Mapping[str, object] | None, audience: Audience
) -> Sequence[Ticket]:
    """The tickets that cannot have been learned by heart, which those of later files are too."""
    if record is None:
        audience.notice(
            f"{adapter} does not tell what it was trained on: the held-out tickets of grpo.seed and "
            "grpo.held_out_fraction judge it"
        )
        return material.split.held_out
    seen = trained_ids(adapter)
    unseen = [ticket for ticket in material.found.tickets if ticket.group_id not in seen]
    if not unseen:
        raise InputError(
            f"{adapter} was trained on all {len(material.found.tickets)} tickets of "
            f"{', '.join(map(str, material.files))}; give files with others (grpo.files, --data)"
        )
    return unseen


def _verdicts(
    settings: Settings,
    material: Material,
    tickets: Sequence[Ticket],
    adapter: Path | None,
    audience: Audience,
) -> list[str]:
    engine = settings.engine.model_copy(update={"adapter": adapter})
    name = "verdicts before" if adapter is None else "verdicts after"
    answer = text_answers(
        engine,
        max_new_tokens=settings.grpo.max_new_tokens,
        progress=counted(audience.bar(name, "tickets")),
    )
    return answer(material.prompts(tickets))


def _metrics(adapter: Path, record: Mapping[str, object] | None) -> tuple[StepMetrics, ...]:
    path = adapter.resolve().parent / METRICS
    return read_metrics(path) if record is not None and path.exists() else ()

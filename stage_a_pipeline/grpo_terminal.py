"""What `stage-a grpo` shows: progress bars, what was found in the tickets, scores, places."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stage_a_pipeline.adapters.evaluation import AdapterEvaluation, evaluate_adapter, write_evaluation
from stage_a_pipeline.adapters.training import train_on_devices
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.inference.devices import leased, list_workers
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.dataset import tickets_to_dataset
from stage_a_pipeline.stage_b.display import sentences, tables
from stage_a_pipeline.stage_b.dry_run import Answer, DryRun, dry_run
from stage_a_pipeline.stage_b.export_swift import export_swift
from stage_a_pipeline.stage_b.launch import require_extra
from stage_a_pipeline.stage_b.material import Material, gather_material
from stage_a_pipeline.stage_b.training import Trained, TrainingAudience, require_whole_step
from stage_a_pipeline.terminal import Notices, bar_listener, console, print_place, shard_bars

_JUDGE_AGAIN: Final = "finished photos are kept, verdicts are not; run the same command again"
_NOTHING_KEPT: Final = "nothing was written"
_GO_ON: Final = "run the same command again: a training goes on after its last checkpoint"


def train_with_bar(settings: Settings) -> Trained:
    """Train on the settings' tickets, and show where the adapter lies. Raises what training raises.

    KeyboardInterrupt with what to tell when it is interrupted.
    """
    material = gather_material(settings)
    print_material(material)
    require_whole_step(settings, material)
    with shard_bars(interrupted=_GO_ON) as bars:
        audience = TrainingAudience(
            notice=Notices(bars.console).show,
            log=lambda _: None,
            progress=counted(bar_listener(bars, "training", "steps")),
        )
        trained = train_on_devices(settings, audience, run_id=f"grpo-{uuid.uuid4()}")
    blocks, depth = trained.record["blocks"], trained.record["depth"]
    console.print(
        f"adapter of language blocks {', '.join(map(str, blocks))} (of {depth}, from 0), after "
        f"{trained.record['steps']} steps; {len(trained.record['trainable'])} trained parameters, "
        "which its stage_b.json lists; every weight of the checkpoint is as it was",
        soft_wrap=True,
    )
    print_place("adapter", trained.adapter)
    print_place("metrics", trained.folder.metrics)
    return trained


def evaluate_adapter_with_bar(settings: Settings, adapter: Path | None) -> AdapterEvaluation:
    """Evaluate an adapter, show the scores, and write them down. Raises what evaluate_adapter raises."""
    with shard_bars(interrupted=_JUDGE_AGAIN) as bars:
        audience = Audience(Notices(bars.console).show, partial(bar_listener, bars))
        evaluation = evaluate_adapter(settings, adapter, audience)
    # Before the files: what was measured is seen even where it cannot be written.
    for table in tables(evaluation.verdicts):
        console.print(table)
    for sentence in sentences(evaluation.suspects, evaluation.summaries):
        console.print(sentence, style="yellow", soft_wrap=True)
    for path in write_evaluation(settings.stage_b_dir, evaluation, run_id=f"grpo-{uuid.uuid4()}"):
        print_place("scores" if path.suffix == ".json" else "picture", path)
    return evaluation


def dry_run_with_bar(settings: Settings) -> DryRun:
    """Check what training needs, and show the rewards of a few answers."""
    require_extra(settings.grpo)
    material = gather_material(settings)
    print_material(material)
    with shard_bars(interrupted=_NOTHING_KEPT) as bars:
        notices = Notices(bars.console)
        worker = list_workers(settings.engine.devices)[0]
        with leased(worker, settings.inference.lease_dir, on_wait=notices.show):
            found = dry_run(settings, material, progress=counted(bar_listener(bars, "answers", "answers")))
    blocks = ", ".join(map(str, found.selection.blocks))
    console.print(f"an adapter would train language blocks {blocks} (of {found.selection.depth}, from 0)")
    for ticket, answers in groupby(found.lines, key=_ticket_of):
        console.print(Text(harmless(": ".join(ticket)), style="cyan"), soft_wrap=True)
        console.print(_rewards_table(list(answers)))
    print_place("answers", found.completions)
    return found


def export_for_swift(settings: Settings, folder: Path) -> None:
    """Write the settings' tickets and rewards for ms-swift."""
    require_extra(settings.grpo)
    material = gather_material(settings)
    print_material(material)
    train, held_out = (
        tickets_to_dataset(
            tickets,
            missions=material.missions,
            profile=settings.grpo.profile,
            prompts_file=settings.grpo.prompts_file,
        )
        for tickets in (material.train, material.split.held_out)
    )
    export_swift(
        folder,
        train=train,
        held_out=held_out,
        settings=settings.grpo,
        checkpoint=settings.engine.checkpoint,
        dtype="float32" if settings.engine.dtype_on(settings.engine.devices[0]) == "float32" else "bfloat16",
    )
    console.print(f"for ms-swift: bash {folder / 'train.sh'}", soft_wrap=True)


def print_material(material: Material) -> None:
    """What was found in the files, and what of it teaches."""
    split = material.split
    repeated = len(material.train) - len(split.train)
    more = f" and {repeated} repeats of the rarer label" if repeated else ""
    console.print(
        f"{len(material.found.tickets)} tickets: {len(split.train)} to learn from{more}, "
        f"{len(split.held_out)} held out",
        soft_wrap=True,
    )
    for remark in material.remarks:
        console.print(f"  {harmless(remark)}", style="yellow", soft_wrap=True)


def _ticket_of(answer: Answer) -> tuple[str, str, str]:
    return answer.task_type, answer.group_id, answer.group_label


def _rewards_table(answers: Sequence[Answer]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("answer", overflow="fold")
    names = list(answers[0].rewards)
    for name in names:
        table.add_column(name, justify="right")
    for answer in answers:
        earned = [f"{answer.rewards[name]:.2f}" for name in names]
        table.add_row(harmless(" | ".join(answer.response.splitlines())), *earned)
    return table

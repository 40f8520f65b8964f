"""Batches across groups against batches per group: the same photos, model and process."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines import Engine, generation_options, load_engine
from stage_a_pipeline.inference.batching import BATCHING_MODES, BatchingMode, deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import BatchingOptions, ShardScheduler
from stage_a_pipeline.inference.shard import mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import Group, ImageRef, Summary
from stage_a_pipeline.settings import EngineSettings, Settings
from stage_a_pipeline.storage import atomic_write

MISSION: Final = "挡风板安装检查"
LARGEST_GROUP: Final = 5
_MAX_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class BatchingWorkload:
    """What is run: groups of 1 to 5 rendered photos, rows per batch, checkpoint, device, seed."""

    groups: int
    batch_size: int
    checkpoint: str
    device: str
    seed: int


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """What one batching mode took for all photos; the best of the rounds."""

    mode: BatchingMode
    photos: int
    batches: int
    batch_fill: float
    cpu_seconds: float
    wall_seconds: float

    @property
    def photos_per_cpu_second(self) -> float:
        return self.photos / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class BatchingComparison:
    """Both modes on one workload. `answers_equal` is asserted, not assumed."""

    workload: BatchingWorkload
    modes: tuple[ModeFigures, ...]
    answers_equal: bool

    @property
    def speedup(self) -> float:
        """Photos per CPU second across groups, over those per group."""
        by_mode = {figures.mode: figures.photos_per_cpu_second for figures in self.modes}
        return by_mode["cross_group"] / by_mode["per_group"]


def compare_batching(workload: BatchingWorkload, *, rounds: int = 2) -> BatchingComparison:
    """Run every mode `rounds` times, in turn, on one loaded model, and keep each mode's best."""
    settings = Settings(
        engine=EngineSettings(
            checkpoint=workload.checkpoint,
            devices=(workload.device,),
            batch_size=workload.batch_size,
            max_new_tokens=_MAX_NEW_TOKENS,
        )
    )
    with tempfile.TemporaryDirectory(prefix="stage-a-bench-") as scratch:
        refs = _photos(Path(scratch, "photos"), workload)
        engine = load_engine(settings.engine, workload.device)
        try:
            # The first batch pays for lazy set-up inside torch; it belongs to no mode.
            _run(refs[: workload.batch_size], engine, settings, "cross_group", Path(scratch, "warm"))
            runs = [
                _run(refs, engine, settings, mode, Path(scratch, f"{mode}-{turn}"))
                for turn in range(rounds)
                for mode in BATCHING_MODES
            ]
        finally:
            engine.close()
    best = {
        mode: min((figures for figures, _ in runs if figures.mode == mode), key=lambda f: f.cpu_seconds)
        for mode in BATCHING_MODES
    }
    texts = [answers for _, answers in runs]
    return BatchingComparison(workload, tuple(best.values()), all(text == texts[0] for text in texts))


def print_comparison(comparison: BatchingComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    table = Table("mode", "photos/CPU s", "CPU s", "wall s", "batches", "batch fill")
    for figures in comparison.modes:
        table.add_row(
            figures.mode,
            f"{figures.photos_per_cpu_second:.1f}",
            f"{figures.cpu_seconds:.1f}",
            f"{figures.wall_seconds:.1f}",
            str(figures.batches),
            f"{figures.batch_fill:.0%}",
        )
    console = Console()
    console.print(table)
    equal = "equal" if comparison.answers_equal else "DIFFERENT"
    photos = comparison.modes[0].photos
    console.print(
        f"{photos} photos: across groups is {comparison.speedup:.2f} times per group; answers are {equal}"
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(_as_json(comparison), file, ensure_ascii=False, indent=2)
            file.write("\n")


def _photos(root: Path, workload: BatchingWorkload) -> list[ImageRef]:
    write_demo_tree(root, missions=[MISSION], groups=workload.groups, seed=workload.seed)
    groups = discover_groups(root, MISSION).groups
    small = [replace(group, images=group.images[:LARGEST_GROUP]) for group in groups]
    return _all_photos(small)


def _all_photos(groups: list[Group]) -> list[ImageRef]:
    return deal_out(enumerate(groups), shards=1, mode="per_group")[0]


def _run(
    refs: list[ImageRef], engine: Engine, settings: Settings, mode: BatchingMode, journal_dir: Path
) -> tuple[ModeFigures, dict[tuple[int, int], str]]:
    recipe = mission_recipe(load_missions()[MISSION], settings, engine="bench")
    batching = BatchingOptions(settings.engine.batch_size, mode)
    with Journal(journal_dir, "bench") as journal:
        generation = generation_options(settings.engine)
        scheduler = ShardScheduler(engine, journal, {MISSION: recipe}, generation, batching)
        cpu, wall = time.process_time(), time.perf_counter()
        outcomes = list(scheduler.run(refs))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    figures = ModeFigures(
        mode=mode,
        photos=len(outcomes),
        batches=scheduler.metrics.batches,
        batch_fill=scheduler.metrics.batch_fill,
        cpu_seconds=cpu,
        wall_seconds=wall,
    )
    answers = {
        (outcome.ref.group_index, outcome.ref.image_index): outcome.raw_text
        for outcome in outcomes
        if isinstance(outcome, Summary)
    }
    return figures, answers


def _as_json(comparison: BatchingComparison) -> dict[str, object]:
    return {
        "workload": asdict(comparison.workload),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "modes": {
            figures.mode: {**asdict(figures), "photos_per_cpu_second": figures.photos_per_cpu_second}
            for figures in comparison.modes
        },
        "speedup": comparison.speedup,
        "answers_equal": comparison.answers_equal,
    }

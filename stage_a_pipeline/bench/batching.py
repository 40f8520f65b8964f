"""Batches across groups against batches per group: the same photos, model and process.

The photos are rendered scenes in groups of 1 to 5, each size equally likely. Measured is the scheduler's
whole run over them, with nothing remembered: reading, decoding, batching, generating and writing the
journal; not rendering, loading the model and the first batch. CPU seconds are those of the process with
all its threads. On a CUDA device they leave out what the device does: compare wall seconds there.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.photos import Photo, encode_photo
from stage_a_pipeline.engines import Engine, generation_options, load_engine
from stage_a_pipeline.inference.batching import BATCHING_MODES, BatchingMode, deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import batching_options, mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import Group, Image, ImageRef, Rejection
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.storage import atomic_write

MISSION: Final = "挡风板安装检查"
LARGEST_GROUP: Final = 5
PhotoScale = Literal["small", "phone"]
PHOTO_SIZES: Final[Mapping[PhotoScale, tuple[tuple[int, int], ...]]] = {
    "small": ((320, 240), (240, 320), (320, 180), (180, 320), (256, 256)),
    "phone": ((1280, 960), (960, 1280), (1280, 720), (720, 1280), (1024, 1024)),
}
"""`small` is about what the built-in model sees: decoding `phone` photos takes longer than asking it."""
_JPEG_QUALITY: Final = 85
_MAX_NEW_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class BatchingWorkload:
    """What is run: groups of 1 to 5 rendered photos, by which engine, in how many rows, and where."""

    groups: int
    engine: Literal["refill", "transformers"]
    batch_size: int
    checkpoint: str
    device: str
    seed: int
    photos: PhotoScale = "small"


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """What one batching mode took for all photos, `rejected` ones included."""

    mode: BatchingMode
    photos: int
    rejected: int
    steps: int
    batch_fill: float
    cpu_seconds: float
    wall_seconds: float

    @property
    def photos_per_cpu_second(self) -> float:
        return self.photos / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class BatchingComparison:
    """Both modes on one workload, each at its best of the rounds.

    `answers_equal` tells whether every run gave every photo the same raw answer.
    """

    workload: BatchingWorkload
    modes: tuple[ModeFigures, ...]
    answers_equal: bool
    torch_threads: int

    @property
    def speedup(self) -> float:
        """Photos per CPU second across groups, over those per group."""
        by_mode = {figures.mode: figures.photos_per_cpu_second for figures in self.modes}
        return by_mode["cross_group"] / by_mode["per_group"]


def compare_batching(workload: BatchingWorkload, *, rounds: int = 2) -> BatchingComparison:
    """Run every mode `rounds` times, in turn, on one loaded model, and keep each mode's best.

    Raises ConfigurationError for a device, batch size or checkpoint that cannot be used.
    """
    settings = _settings(workload)
    with scratch_folder() as scratch:
        engine = load_engine(settings.engine, workload.device)
        try:
            refs = _photos(Path(scratch, "photos"), workload)
            # The first batch pays for lazy set-up inside torch; it belongs to no mode.
            _run(refs[: workload.batch_size], engine, settings, "cross_group", Path(scratch, "warm"))
            runs = [
                _run(refs, engine, settings, mode, Path(scratch, f"{mode}-{turn}"))
                for turn in range(rounds)
                for mode in BATCHING_MODES
            ]
        finally:
            engine.close()
    best = [
        min((figures for figures, _ in runs if figures.mode == mode), key=lambda f: f.cpu_seconds)
        for mode in BATCHING_MODES
    ]
    answers = [answers for _, answers in runs]
    equal = all(one == answers[0] for one in answers)
    return BatchingComparison(workload, tuple(best), equal, _torch_threads())


def _settings(workload: BatchingWorkload) -> Settings:
    engine = {
        "engine": workload.engine,
        "checkpoint": workload.checkpoint,
        "devices": [workload.device],
        "batch_size": workload.batch_size,
        "max_new_tokens": _MAX_NEW_TOKENS,
    }
    return load_settings(environ={}, overrides={"engine": engine})


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def print_comparison(comparison: BatchingComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    table = Table("mode", "photos/CPU s", "CPU s", "wall s", "steps", "batch fill")
    for figures in comparison.modes:
        table.add_row(
            figures.mode,
            f"{figures.photos_per_cpu_second:.1f}",
            f"{figures.cpu_seconds:.1f}",
            f"{figures.wall_seconds:.1f}",
            str(figures.steps),
            f"{figures.batch_fill:.0%}",
        )
    console = Console()
    console.print(table)
    workload = comparison.workload
    equal = "equal" if comparison.answers_equal else "DIFFERENT"
    photos = comparison.modes[0].photos
    console.print(
        f"{photos} {workload.photos} photos on {workload.device}, engine {workload.engine}, "
        f"batches of {workload.batch_size}, "
        f"torch threads: {comparison.torch_threads}; per CPU second, across groups is "
        f"{comparison.speedup:.2f} times per group; answers are {equal}",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(_as_json(comparison), file, ensure_ascii=False, indent=2)
            file.write("\n")


def _photos(root: Path, workload: BatchingWorkload) -> list[ImageRef]:
    """The workload's photos, written below `root`: the same seed, the same groups and bytes."""
    rng = Random(workload.seed)
    groups = [
        _write_group(root / f"group_{number:04d}", rng, PHOTO_SIZES[workload.photos])
        for number in range(workload.groups)
    ]
    return deal_out(enumerate(groups), shards=1, mode="per_group")[0]


def _write_group(folder: Path, rng: Random, sizes: Sequence[tuple[int, int]]) -> Group:
    folder.mkdir(parents=True)
    mission = load_missions()[MISSION]
    images = []
    for number in range(1, rng.randint(1, LARGEST_GROUP) + 1):
        image = Image(folder, f"{number}.jpg")
        photo = Photo(compose_scene(rng, mission), rng.choice(sizes), 1, _JPEG_QUALITY)
        image.path.write_bytes(encode_photo(photo))
        images.append(image)
    return Group(MISSION, "pass", folder.name, folder, tuple(images))


def _run(
    refs: list[ImageRef], engine: Engine, settings: Settings, mode: BatchingMode, journal_dir: Path
) -> tuple[ModeFigures, dict[tuple[int, int], str | None]]:
    """The figures of one run, and its raw answers by the photo's place, those of rejected ones included."""
    recipe = mission_recipe(load_missions()[MISSION], settings)
    batching = replace(batching_options(settings, settings.engine.devices[0]), mode=mode)
    with Journal(journal_dir, "bench", [MISSION]) as journal:
        generation = generation_options(settings.engine)
        scheduler = ShardScheduler(engine, journal, {MISSION: recipe}, generation, batching)
        cpu, wall = time.process_time(), time.perf_counter()
        outcomes = list(scheduler.run(refs))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    figures = ModeFigures(
        mode=mode,
        photos=len(outcomes),
        rejected=sum(isinstance(outcome, Rejection) for outcome in outcomes),
        steps=scheduler.metrics.steps,
        batch_fill=scheduler.metrics.batch_fill,
        cpu_seconds=cpu,
        wall_seconds=wall,
    )
    answers = {(outcome.ref.group_index, outcome.ref.image_index): outcome.raw_text for outcome in outcomes}
    return figures, answers


def _as_json(comparison: BatchingComparison) -> dict[str, object]:
    return {
        "workload": asdict(comparison.workload),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "torch_threads": comparison.torch_threads,
        },
        "modes": {
            figures.mode: {**asdict(figures), "photos_per_cpu_second": figures.photos_per_cpu_second}
            for figures in comparison.modes
        },
        "speedup": comparison.speedup,
        "answers_equal": comparison.answers_equal,
    }

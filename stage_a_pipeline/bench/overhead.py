"""What everything around the engine costs: a shard's scheduler against a bare loop over the same requests.

The bare loop is handed its requests decoded and prepared, in the order in which the scheduler asks them,
and does nothing but fill the batch and step it. The scheduler reads, hashes, decodes and prepares the same
photos ahead, and writes a journal. Both run several times, in turn, on one loaded model; loading it,
rendering the photos and a first run of each are not measured.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from rich.console import Console

from stage_a_pipeline.bench.batching import MISSION, PHOTO_SIZES
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.photos import Photo, encode_photo
from stage_a_pipeline.engines import Engine, GenerationOptions, Request, generation_options, load_engine
from stage_a_pipeline.engines.base import Completion
from stage_a_pipeline.images import decode_photo
from stage_a_pipeline.inference.asking import BatchingOptions, Recipe, request_id
from stage_a_pipeline.inference.batching import deal_out, order_by_size
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import batching_options, mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import Group, Image, ImageRef
from stage_a_pipeline.settings import load_settings
from stage_a_pipeline.storage import atomic_write

ROUNDS: Final = 5
_GROUP_SIZE: Final = 3
_JPEG_QUALITY: Final = 85
_ENGINE: Final = {"engine": "refill", "batch_size": 32, "max_new_tokens": 256}


@dataclass(frozen=True, slots=True)
class Round:
    """Wall seconds of both over all photos, and what the scheduler's went into: the engine's calls, and
    waiting for photos. CPU seconds are those of the thread that drives the engine: other load on the machine
    does not show in them, nor does waiting for the interpreter."""

    bare_seconds: float
    scheduler_seconds: float
    device_seconds: float
    waiting_seconds: float
    bare_cpu_seconds: float
    scheduler_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Overhead:
    """What both took for so many photos. `answers_equal`: every photo got the same answer from both."""

    photos: int
    batch_size: int
    rounds: tuple[Round, ...]
    answers_equal: bool
    torch_threads: int

    @property
    def share(self) -> float:
        """What the scheduler adds to the wall time of the bare loop, as a share of that: of the medians."""
        return self.median("scheduler_seconds") / self.median("bare_seconds") - 1

    @property
    def cpu_share(self) -> float:
        """The same of the CPU time of the thread that drives the engine."""
        return self.median("scheduler_cpu_seconds") / self.median("bare_cpu_seconds") - 1

    @property
    def outside_share(self) -> float:
        """What of the scheduler's wall time is not spent in the engine's calls."""
        return 1 - self.median("device_seconds") / self.median("scheduler_seconds")

    def median(self, name: str) -> float:
        """That of one of a Round's figures."""
        return float(median(getattr(measured, name) for measured in self.rounds))


@dataclass(frozen=True, slots=True)
class _Work:
    """The photos, and how they are asked."""

    engine: Engine
    refs: Sequence[ImageRef]
    recipe: Recipe
    generation: GenerationOptions
    batching: BatchingOptions


def measure_overhead(photos: int, *, seed: int = 7, rounds: int = ROUNDS) -> Overhead:
    """Run both `rounds` times, in turn, over rendered photos with the built-in checkpoint on the CPU."""
    import torch

    settings = load_settings(environ={}, overrides={"engine": _ENGINE})
    with scratch_folder() as scratch:
        engine = load_engine(settings.engine, "cpu")
        try:
            work = _Work(
                engine,
                _render(Path(scratch, "photos"), photos, Random(seed)),
                mission_recipe(load_missions()[MISSION], settings),
                generation_options(settings.engine),
                batching_options(settings, "cpu"),
            )
            requests = _requests(work)
            measured, equal = [], True
            for turn in range(rounds + 1):
                figures, same = _round(work, requests, Path(scratch, f"journal-{turn}"))
                measured.append(figures)
                equal = equal and same
        finally:
            engine.close()
    # The first of each pays for lazy set-up inside torch.
    return Overhead(
        photos, work.batching.batch_size, tuple(measured[1:]), equal, torch_threads=torch.get_num_threads()
    )


def print_overhead(overhead: Overhead, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    scheduler, bare = overhead.median("scheduler_seconds"), overhead.median("bare_seconds")
    device, waiting = overhead.median("device_seconds"), overhead.median("waiting_seconds")
    equal = "equal" if overhead.answers_equal else "DIFFERENT"
    Console().print(
        f"{overhead.photos} photos in batches of {overhead.batch_size}, torch threads: "
        f"{overhead.torch_threads}; bare loop {bare:.2f} s, scheduler {scheduler:.2f} s "
        f"({device:.2f} s in the engine, {waiting:.2f} s waiting for photos, "
        f"{scheduler - device - waiting:.2f} s other, {overhead.outside_share:.1%} outside the engine): "
        f"{overhead.share:+.1%}, CPU time of its thread {overhead.cpu_share:+.1%}; answers are {equal}",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(_as_json(overhead), file, indent=2)
            file.write("\n")


def _render(root: Path, photos: int, rng: Random) -> list[ImageRef]:
    """Photos of about the model's own scale, in groups, written below `root`."""
    mission = load_missions()[MISSION]
    groups = []
    for first in range(0, photos, _GROUP_SIZE):
        folder = root / f"group_{first:06d}"
        folder.mkdir(parents=True)
        images = tuple(Image(folder, f"{n}.jpg") for n in range(first, min(first + _GROUP_SIZE, photos)))
        for image in images:
            photo = Photo(compose_scene(rng, mission), rng.choice(PHOTO_SIZES["small"]), 1, _JPEG_QUALITY)
            image.path.write_bytes(encode_photo(photo))
        groups.append(Group(MISSION, "pass", folder.name, folder, images))
    return deal_out(enumerate(groups), shards=1, mode="per_group")[0]


def _requests(work: _Work) -> list[Request]:
    """All photos decoded and prepared, in the order in which the scheduler asks them."""
    fit = partial(work.engine.target_size, max_pixels=work.recipe.max_pixels)
    requests = []
    for ref in work.refs:
        image = decode_photo(ON_DISK.read(ref.image.path), fit=fit)
        requests.append(Request(request_id(ref), work.engine.prepare(image), work.recipe.prompt))
    window = work.batching.sort_window or len(requests)
    windows = [requests[first : first + window] for first in range(0, len(requests), window)]
    if work.batching.sort_window:
        orders = [order_by_size([prod(each.image.size) for each in own]) for own in windows]
        windows = [[own[place] for place in order] for own, order in zip(windows, orders, strict=True)]
    return [request for own in windows for request in own]


def _round(work: _Work, requests: Sequence[Request], journal_dir: Path) -> tuple[Round, bool]:
    """The figures of one run of each, and whether their answers are equal."""
    cpu, wall = time.thread_time(), time.perf_counter()
    expected = _run_bare(work, requests)
    bare_cpu, bare = time.thread_time() - cpu, time.perf_counter() - wall
    cpu, wall = time.thread_time(), time.perf_counter()
    metrics, answers = _run_scheduler(work, journal_dir)
    measured = Round(
        bare_seconds=bare,
        scheduler_seconds=time.perf_counter() - wall,
        device_seconds=metrics.device_seconds,
        waiting_seconds=metrics.waiting_seconds,
        bare_cpu_seconds=bare_cpu,
        scheduler_cpu_seconds=time.thread_time() - cpu,
    )
    return measured, answers == expected


def _run_bare(work: _Work, requests: Sequence[Request]) -> dict[str, str]:
    """The answers by request."""
    waiting, answers = deque(requests), {}
    batch = work.engine.start_batch(work.batching.batch_size)
    while waiting or batch.open:
        while waiting and batch.room:
            batch.add(waiting.popleft(), work.generation)
        for ended in batch.step():
            assert isinstance(ended, Completion)
            answers[ended.id] = ended.text
    return answers


def _run_scheduler(work: _Work, journal_dir: Path) -> tuple[ShardMetrics, dict[str, str | None]]:
    """What it did, and the raw answers by request."""
    with Journal(journal_dir, "bench", [MISSION]) as journal:
        recipes = {MISSION: work.recipe}
        scheduler = ShardScheduler(work.engine, journal, recipes, work.generation, work.batching)
        outcomes = list(scheduler.run(work.refs))
    return scheduler.metrics, {request_id(outcome.ref): outcome.raw_text for outcome in outcomes}


def _as_json(overhead: Overhead) -> dict[str, object]:
    machine = {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    shares = {
        "share": overhead.share,
        "cpu_share": overhead.cpu_share,
        "outside_share": overhead.outside_share,
    }
    return {**asdict(overhead), **shares, "machine": machine}

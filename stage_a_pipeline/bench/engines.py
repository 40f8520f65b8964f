"""Engines side by side: the same photos, checkpoint and answer lengths, each run in a fresh process.

Rounds go through all engines in turn, so that what the machine does besides falls on all alike, and each
figure is the median of the rounds. Every process loads the model, warms up, and is then measured from the
first photo's file to the last answer; no process finds anything that another has computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.bench.contenders import ENDPOINT, Contender, choose
from stage_a_pipeline.bench.endpoint import Endpoint, ask_endpoint
from stage_a_pipeline.bench.engine_figures import EngineRow, check_lengths, engine_rows
from stage_a_pipeline.bench.engine_records import EngineRun, EngineTask, write_json
from stage_a_pipeline.bench.engine_run import RUN_FILE
from stage_a_pipeline.bench.module_run import run_module
from stage_a_pipeline.bench.photo_files import MISSION, write_photos
from stage_a_pipeline.bench.prompt_length import prompt_of_length, text_lengths
from stage_a_pipeline.bench.roofline import DeviceRates, ideal_seconds, photo_work
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.bench.shapes import SHAPES, Shape, ShapeName
from stage_a_pipeline.bench.workload import PlannedPhoto, plan_photos
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import Prompt, build_prompt
from stage_a_pipeline.settings import load_settings

_MOST_NEW_TOKENS: Final = 256
"""The longest answer where the model ends its answers."""
ALLOCATOR: Final = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_ARENA_MAX": "1",
}
"""glibc keeps freed memory: transformers' cache is copied at every step, and would be paged in anew. Threads
share one heap, since what is kept is kept for each of them otherwise."""


@dataclass(frozen=True, slots=True)
class EngineWorkload:
    """What is run, where, and how often; None is the shape's own number."""

    shape: ShapeName = "builtin"
    device: str = "cpu"
    photos: int | None = None
    groups: int | None = None
    batch_size: int | None = None
    rounds: int = 1
    engines: tuple[str, ...] = ()
    seed: int = 7
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class EngineComparison:
    """The rows, which engines were left out and why, and under which conditions it was."""

    rows: tuple[EngineRow, ...]
    left_out: Mapping[str, str]
    conditions: Mapping[str, object]
    exact: bool

    @property
    def different(self) -> list[str]:
        """Engines that had to give the reference's answers in float32, and did not."""
        return [
            row.engine
            for row in self.rows
            if self.exact and row.must_be_same and row.same_text not in (1.0, None)
        ]


def compare_engines(workload: EngineWorkload, *, tell: Callable[[str], None]) -> EngineComparison:
    """Run every engine `rounds` times, in turn; `tell` is told what begins.

    Raises ConfigurationError for what cannot be run, and StageAError for an engine that fails, or that
    breaks a forced length.
    """
    shape = SHAPES[workload.shape]
    contenders, left_out = choose(workload.engines, shape)
    if not contenders and workload.endpoint is None:
        raise ConfigurationError(f"nothing is left to compare: {_reasons(left_out)}")
    overrides = {"engine": {"devices": [workload.device]}}
    settings = load_settings(environ={}, overrides=overrides, overrides_source="--device")
    dtype = settings.engine.dtype_on(workload.device)
    planned = _plan(workload, shape)
    with scratch_folder() as scratch:
        tell(f"preparing {len(planned)} photos and the checkpoint {shape.name}")
        bench = _Bench(workload, shape, planned, scratch, dtype)
        runs: dict[str, list[EngineRun]] = {contender.name: [] for contender in contenders}
        for turn in range(1, workload.rounds + 1):
            for contender in contenders:
                tell(f"round {turn} of {workload.rounds}: {contender.name}")
                runs[contender.name].append(bench.measure(contender, turn))
            if workload.endpoint is not None:
                tell(f"round {turn} of {workload.rounds}: {ENDPOINT}")
                runs.setdefault(ENDPOINT, []).append(bench.ask(workload.endpoint))
        ideal = bench.ideal_seconds()
    rows = engine_rows(runs, ideal_seconds_per_photo=ideal)
    return EngineComparison(tuple(rows), left_out, bench.conditions(), dtype == "float32")


def _plan(workload: EngineWorkload, shape: Shape) -> tuple[PlannedPhoto, ...]:
    photos = workload.photos
    if photos is None and workload.groups is None:
        photos = shape.photos
    try:
        return plan_photos(
            photos=photos,
            groups=workload.groups,
            sizes=shape.sizes,
            median_answer=shape.median_answer,
            seed=workload.seed,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in left_out.items())


class _Bench:
    """The photos and the checkpoint on disk, and the processes over them."""

    def __init__(
        self,
        workload: EngineWorkload,
        shape: Shape,
        planned: tuple[PlannedPhoto, ...],
        scratch: Path,
        dtype: str,
    ) -> None:
        from stage_a_pipeline.bench.random_weights import write_checkpoint
        from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
        from stage_a_pipeline.engines.loading import load_processor, usable_device

        usable_device(workload.device)
        self._workload = workload
        self._planned = planned
        self._scratch = scratch
        self._dtype = dtype
        self._batch_size = workload.batch_size or shape.batch_size
        self._photos = scratch / "photos"
        write_photos(self._photos, planned, seed=workload.seed)
        if shape.model is None:
            checkpoint = resolve_checkpoint("builtin")
        else:
            folder = scratch / "checkpoint"
            checkpoint = write_checkpoint(
                shape, folder, device=workload.device, dtype=dtype, seed=workload.seed
            )
        self._checkpoint = checkpoint.folder
        processor = load_processor(checkpoint)
        self._prompt: Prompt | None = None
        if shape.prefix_tokens is not None:
            self._prompt = prompt_of_length(processor, shape.prefix_tokens)
        self._asked = self._prompt or build_prompt(load_missions()[MISSION])
        self._prefix, self._behind = text_lengths(processor, self._asked)
        lengths = [photo.answer_tokens for photo in planned if photo.answer_tokens is not None]
        self._most_new_tokens = max(lengths, default=_MOST_NEW_TOKENS)

    def measure(self, contender: Contender, turn: int) -> EngineRun:
        """One engine in a process of its own."""
        place = self._scratch / f"{turn}-{contender.name.replace(' ', '_')}"
        place.mkdir()
        task = EngineTask(
            engine=contender.name,
            checkpoint=str(self._checkpoint),
            device=self._workload.device,
            batch_size=self._batch_size,
            max_new_tokens=self._most_new_tokens,
            prompt=self._prompt,
            photos_root=str(self._photos),
            photos=self._planned,
            scratch=str(place),
        )
        write_json(place / "task.json", task)
        self._python("stage_a_pipeline.bench.engine_run", str(place / "task.json"), what=contender.name)
        run = EngineRun.read(place / RUN_FILE)
        check_lengths(contender.name, self._planned, run)
        return run

    def ask(self, endpoint: Endpoint) -> EngineRun:
        """The same photos to a server elsewhere."""
        return ask_endpoint(
            endpoint,
            self._asked,
            self._planned,
            self._photos,
            at_once=self._batch_size,
            max_new_tokens=self._most_new_tokens,
        )

    def ideal_seconds(self) -> float | None:
        """Seconds a photo takes where the device does what it can; None on a CPU, and without a shape."""
        model, device = SHAPES[self._workload.shape].model, self._workload.device
        if model is None or not device.startswith("cuda"):
            return None
        rates = DeviceRates.parse(
            self._python("stage_a_pipeline.bench.device_rates", device, what="measuring the device")
        )
        work = photo_work(
            model, self._planned, prefix_tokens=self._prefix, text_tokens=self._prefix + self._behind
        )
        return ideal_seconds(work, rates, batch_size=self._batch_size).total

    def conditions(self) -> dict[str, object]:
        """What the figures depend on."""
        return {
            "shape": self._workload.shape,
            "device": self._workload.device,
            "dtype": self._dtype,
            "photos": len(self._planned),
            "groups": self._planned[-1].group,
            "batch_size": self._batch_size,
            "rounds": self._workload.rounds,
            "prompt_prefix_tokens": self._prefix,
            "prompt_text_tokens": self._prefix + self._behind,
            "seed": self._workload.seed,
            "omp_num_threads": self._environment().get("OMP_NUM_THREADS"),
        }

    def _environment(self) -> dict[str, str]:
        """That of every process alike: one thread for the arithmetic on a CPU."""
        threads = {} if self._workload.device.startswith("cuda") else {"OMP_NUM_THREADS": "1"}
        return {**os.environ, **ALLOCATOR, **threads, "HF_HUB_OFFLINE": "1"}

    def _python(self, module: str, argument: str, *, what: str) -> str:
        return run_module(module, argument, environment=self._environment(), what=what)


def environment_note(device: str) -> str:
    """How the processes were run, for people."""
    threads = "" if device.startswith("cuda") else "OMP_NUM_THREADS=1, "
    return f"{threads}glibc keeps freed memory in one heap (MALLOC_*)"

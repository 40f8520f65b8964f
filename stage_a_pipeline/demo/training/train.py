"""Training of the demonstration checkpoint, from nothing, in steps that a seed reproduces.

The halves are trained apart first (vision on the truth per cell, language on an embedding of that
truth), then joined: that reaches in minutes on one core what joint training alone does not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from stage_a_pipeline.demo.training.batches import Batch, BatchMaker, StepKind
from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.model import build_model, save_checkpoint
from stage_a_pipeline.demo.training.tokenizer import train_tokenizer
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.storage import atomic_write, ensure_folder
from stage_a_pipeline.torch_threads import one_thread

if TYPE_CHECKING:
    import torch

    from stage_a_pipeline.demo.training.learner import Learner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Phase:
    """A number of steps whose kinds are drawn with equal chance from the letters of `mix`."""

    mix: str
    steps: int


@dataclass(frozen=True, slots=True)
class Course:
    """Phases over which the learning rates rise to `peak`, a share of the full ones, and fall once."""

    phases: tuple[Phase, ...]
    peak: float = 1.0

    def __len__(self) -> int:
        return sum(phase.steps for phase in self.phases)


DEFAULT_PLAN: Final = (
    Course((Phase("VVVVVLLB", 3200), Phase("TTTTTVLB", 900), Phase("JJJJJJTLB", 3700))),
    Course((Phase("JJJKKCCCCCTB", 8500),), peak=0.4),
)
"""See `batches` for the letters. The first course teaches all but counting, the second that."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How a step changes the weights. Both rates fall over the last `decay` of a course's steps.

    `matrix_rate` is that of the matrices within the layers, `learning_rate` that of all else.
    """

    rows: int = 16
    learning_rate: float = 1.5e-3
    matrix_rate: float = 6e-3
    warm_up_steps: int = 100
    decay: float = 0.6
    final_share: float = 0.02
    weight_decay: float = 0.05
    clip: float = 1.0

    def rate_at(self, step: int, total: int) -> float:
        """The share of its course's peak rates that a step takes."""
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        done = step / total
        start = 1 - self.decay
        if done < start:
            return warm
        falling = 0.5 * (1 + math.cos(math.pi * (done - start) / self.decay))
        return warm * (self.final_share + (1 - self.final_share) * falling)


def train(
    out: Path,
    *,
    seed: int = 11,
    plan: Sequence[Course] = DEFAULT_PLAN,
    device: str = "cpu",
    optimisation: Optimisation | None = None,
    save_every: int = 250,
    workers: int = 1,
) -> Path:
    """Train the demonstration model and return its checkpoint folder, `out/checkpoint`.

    Continues from `out/training_state.pt` where a former call with the same arguments was stopped;
    other arguments there are a ConfigurationError, and so is a device that is not there. `workers` 0
    makes batches in this process.
    Progress goes to the log and to `out/progress.jsonl`.
    """
    import torch

    from stage_a_pipeline.demo.training.learner import Learner

    _require_device(device)
    optimisation = optimisation or Optimisation()
    recipe = _Recipe(seed, tuple(plan), optimisation)
    total = len(recipe)
    state_file = ensure_folder(out) / "training_state.pt"
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(tokenizer_corpus(list(load_missions().values())))
    learner = Learner(build_model(tokenizer), optimisation, device)
    first = _resume(learner, state_file, recipe)
    maker = BatchMaker(tokenizer, rows=optimisation.rows, seed=seed)
    progress = _Progress(out / "progress.jsonl", first)
    # More would be slower at this size, and would sum in another order.
    with one_thread():
        for step, batch in _batches(maker, recipe, range(first, total), workers):
            losses = learner.learn(batch, rate=recipe.rate_of(step), seed=seed + step)
            progress.note(step, total, batch.kind, losses)
            if (step + 1) % save_every == 0 or step + 1 == total:
                _save_state(learner, state_file, recipe, step + 1)
                save_checkpoint(learner.model, tokenizer, out / "checkpoint")
    return out / "checkpoint"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Everything that decides the weights, apart from the device."""

    seed: int
    plan: tuple[Course, ...]
    optimisation: Optimisation

    def __len__(self) -> int:
        return sum(len(course) for course in self.plan)

    def kind_of(self, step: int) -> StepKind:
        """The kind of a step, drawn from its phase's mix."""
        phases = [phase for course in self.plan for phase in course.phases]
        behind = 0
        for phase in phases:
            behind += phase.steps
            if step < behind:
                return cast("StepKind", Random(f"{self.seed}/kind/{step}").choice(phase.mix))
        raise IndexError(step)

    def rate_of(self, step: int) -> float:
        """The share of the full learning rates that a step takes."""
        for course in self.plan:
            if step < len(course):
                return course.peak * self.optimisation.rate_at(step, len(course))
            step -= len(course)
        raise IndexError(step)

    def key(self) -> str:
        """The recipe as text, to tell whether a saved state belongs to it."""
        return json.dumps(asdict(self), sort_keys=True)


class _Steps:
    """The batches of a recipe as a map-style data set: item i is the batch of step i."""

    def __init__(self, maker: BatchMaker, recipe: _Recipe) -> None:
        self._maker = maker
        self._recipe = recipe

    def __len__(self) -> int:
        return len(self._recipe)

    def __getitem__(self, step: int) -> tuple[int, Batch]:
        return step, self._maker.make(self._recipe.kind_of(step), step)


def _batches(maker: BatchMaker, recipe: _Recipe, steps: range, workers: int) -> Iterator[tuple[int, Batch]]:
    import torch

    loader: Any = torch.utils.data.DataLoader(
        cast("torch.utils.data.Dataset[Any]", _Steps(maker, recipe)),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    return iter(loader)


def _resume(learner: Learner, state_file: Path, recipe: _Recipe) -> int:
    import torch

    if not state_file.exists():
        return 0
    state = torch.load(state_file, weights_only=True, map_location="cpu")
    if state["recipe"] != recipe.key():
        raise ConfigurationError(
            f"{state_file} belongs to a training with other arguments; "
            "give the same arguments to continue it, or another folder to start anew"
        )
    learner.load_state_dict(state["learner"])
    log.info("continuing at step %d of %d", state["step"], len(recipe))
    return int(state["step"])


def _require_device(device: str) -> None:
    import torch

    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if device not in known:
        raise ConfigurationError(f"device {device!r} is not there; give one of {', '.join(known)}")


def _save_state(learner: Learner, state_file: Path, recipe: _Recipe, step: int) -> None:
    import torch

    with atomic_write(state_file, "wb") as file:
        torch.save({"recipe": recipe.key(), "step": step, "learner": learner.state_dict()}, file)


class _Progress:
    """Smoothed losses, told to the log now and then and appended to a file."""

    def __init__(self, file: Path, first: int, *, every: int = 50) -> None:
        self._file = file
        self._first = first
        self._every = every
        self._smoothed: dict[str, float] = {}
        self._started = time.monotonic()
        self._cpu_started = time.process_time()

    def note(self, step: int, total: int, kind: StepKind, losses: dict[str, float]) -> None:
        """Take in the losses of a step."""
        for name, loss in losses.items():
            key = f"{kind}.{name}"
            self._smoothed[key] = 0.97 * self._smoothed.get(key, loss) + 0.03 * loss
        if (step + 1) % self._every and step + 1 != total:
            return
        line = {
            "step": step + 1,
            "of": total,
            "minutes": round((time.monotonic() - self._started) / 60, 2),
            "cpu_minutes": round((time.process_time() - self._cpu_started) / 60, 2),
            "losses": {name: round(loss, 4) for name, loss in sorted(self._smoothed.items())},
        }
        text = json.dumps(line)
        log.info("%s", text)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

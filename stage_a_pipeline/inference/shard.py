"""One shard, start to end: claim the output, lease the device, load the model, run the photos."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from stage_a_pipeline.engines import (
    Engine,
    engine_hash,
    generation_options,
    load_engine,
)
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.images import DecodeMode
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe
from stage_a_pipeline.inference.claims import PhotoClaims
from stage_a_pipeline.inference.devices import Worker, leased
from stage_a_pipeline.inference.journal import Fingerprint, Journal, run_fingerprint
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.remembered import remembered_outcomes
from stage_a_pipeline.inference.run_notes import Writer
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shared_journals import shared_journals
from stage_a_pipeline.inference.tracing import PhotoSpans, engine_attributes
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.prompts import build_prompt, prompt_hash
from stage_a_pipeline.records import ImageRef, Outcome
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.telemetry.spans import ASK_PHOTOS, LOAD_MODEL, REMEMBERED, WAIT_FOR_DEVICE

IMAGE_TRANSFORM: Final[Mapping[DecodeMode, str]] = {
    "exact": "upright-rgb-bicubic/1",
    "fast": "upright-rgb-draft-bicubic/1",
}
"""Names how bytes become pixels; a change of images.py that changes pixels changes this."""

_ROWS_UNTIL_FOUND: Final = 32
_FEWEST_DECODERS: Final = 2
_MOST_DECODERS: Final = 16


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What answers depend on, as it was when the run was planned: recorded beside the answers."""

    fingerprint: str
    prompt_hash: str
    settings: Mapping[str, object]

    def to_metadata(self) -> dict[str, str]:
        """As texts for a table's metadata."""
        settings = json.dumps(self.settings, ensure_ascii=False, sort_keys=True)
        return {"fingerprint": self.fingerprint, "prompt_hash": self.prompt_hash, "settings": settings}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> RunPlan:
        """The inverse of `to_metadata`."""
        return cls(metadata["fingerprint"], metadata["prompt_hash"], json.loads(metadata["settings"]))


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard's photos, of one mission or several, where they are run, and how each mission's are asked.

    The shard keeps its `name`, that of its journal files, wherever it is run.
    """

    name: str
    refs: Sequence[ImageRef]
    worker: Worker
    recipes: Mapping[str, Recipe]
    settings: Settings
    run_id: str

    @property
    def missions(self) -> list[str]:
        """The missions of the photos, sorted."""
        return sorted({ref.group.mission for ref in self.refs})


_NOT_OF_THE_ANSWERS: Final = {"automation", "grpo", "reassembly", "report", "telemetry"}
"""Sections about what starts runs, who watches, what is made of the delivered file later, or other data."""


def plan_run(recipe: Recipe, settings: Settings) -> RunPlan:
    """What the answers of a run will depend on that asks by this recipe."""
    told = settings.model_dump(mode="json", exclude=_NOT_OF_THE_ANSWERS)
    return RunPlan(recipe.fingerprint, prompt_hash(recipe.prompt), told)


def require_fingerprint(recipe: Recipe, planned: Fingerprint) -> None:
    """ConfigurationError when what the answers depend on has changed since the run was planned."""
    if recipe.fingerprint != planned:
        raise ConfigurationError(
            "settings, prompts or the checkpoint have changed since this run was planned; "
            "start a new run: photos that were finished are not repeated where nothing changed for them"
        )


def mission_recipes(missions: Iterable[Mission], settings: Settings) -> dict[str, Recipe]:
    """How the photos of each mission are asked; the checkpoint is read once for all of them.

    Raises ConfigurationError for prompts or a checkpoint that cannot be used.
    """
    engine = engine_hash(settings.engine)
    return {mission.name: _recipe(mission, settings, engine) for mission in missions}


def mission_recipe(mission: Mission, settings: Settings) -> Recipe:
    """How the photos of a single mission are asked. Raises as mission_recipes."""
    return mission_recipes([mission], settings)[mission.name]


def _recipe(mission: Mission, settings: Settings, engine: str) -> Recipe:
    prompts = settings.prompts
    prompt = build_prompt(
        mission,
        profile=prompts.profile,
        prompts_file=prompts.prompts_file,
        text_before_image=prompts.text_before_image,
    )
    max_pixels = settings.engine.max_pixels_for(mission.dataset)
    decode = settings.inference.decode
    fingerprint = run_fingerprint(engine, prompt_hash(prompt), str(max_pixels), IMAGE_TRANSFORM[decode])
    grammar = mission.dataset if settings.engine.structured_output else None
    return Recipe(prompt, max_pixels, fingerprint, grammar, decode)


def run_shard(
    task: ShardTask,
    *,
    listeners: Listeners,
    log: Callable[[str], None],
    keep: Callable[[Outcome], None],
) -> ShardMetrics:
    """Summarise a shard's photos on its device, in this process; `keep` takes each outcome.

    The outputs are claimed first, so that a second run is refused at once rather than kept waiting for
    the device. Neither device nor model is touched before the first photo that must be asked. `log` is
    told what happens, the warning listener what people should know. Raises LockedError,
    ConfigurationError, and what ShardScheduler raises.
    """
    assert task.refs, "an empty shard is not planned"
    settings, worker = task.settings, task.worker
    work, photos = settings.output.work_dir, photo_source(settings)
    warn = listeners.warning or log
    generation = generation_options(settings.engine)
    batching = batching_options(settings, worker.device)
    with ExitStack() as held:
        held.enter_context(claim_missions(task))
        journal = held.enter_context(Journal(work / "journal", task.name, task.missions))
        held.callback(_tell, journal.notices, warn)
        _tell(journal.notices, warn)
        metrics, span = ShardMetrics(), listeners.span
        known = remembered_outcomes(
            task.refs,
            journal,
            task.recipes,
            generation,
            batching,
            metrics=metrics,
            listeners=listeners,
            photos=photos,
        )
        with span.child(REMEMBERED):
            for outcome in known:
                keep(outcome)
        if metrics.photos == len(task.refs):
            return metrics
        engine = held.enter_context(_engine_on_device(task, listeners, log, remembered=len(journal)))
        batching = fitted(batching, engine, task, log)
        asking = held.enter_context(span.child(ASK_PHOTOS, engine_attributes(settings)))
        scheduler = ShardScheduler(
            engine,
            journal,
            task.recipes,
            generation,
            batching,
            photos=photos,
            claims=held.enter_context(PhotoClaims(work / "locks" / "photos.claims")),
            listeners=replace(listeners, span=asking),
            metrics=metrics,
            photo_spans=PhotoSpans(asking, settings.telemetry.photo_sample_ratio),
        )
        for outcome in scheduler.run(task.refs[metrics.photos :]):
            keep(outcome)
        return metrics


@contextmanager
def _engine_on_device(
    task: ShardTask, listeners: Listeners, log: Callable[[str], None], *, remembered: int
) -> Iterator[Engine]:
    """The engine, loaded onto a device that is leased for it."""
    settings, worker, span = task.settings, task.worker, listeners.span
    with ExitStack() as held:
        if settings.engine.uses_device:
            lease_dir, alive = settings.inference.lease_dir, listeners.watch.alive
            with span.child(WAIT_FOR_DEVICE):
                on_wait = listeners.warning or log
                held.enter_context(leased(worker, lease_dir, on_wait=on_wait, while_waiting=alive))
        log(f"{remembered} answers are remembered; loading {settings.engine.engine} on {worker.device}")
        with span.child(LOAD_MODEL, engine_attributes(settings)):
            engine = held.enter_context(closing(load_engine(settings.engine, worker.device)))
        yield engine


def share_journals(task: ShardTask, tell: Callable[[str], None]) -> AbstractContextManager[None]:
    """See `shared_journals`, for this shard's."""
    writer = Writer(task.name, task.missions, task.run_id, f"summarise on {task.worker.key}")
    return shared_journals(task.settings.output, writer, tell)


@contextmanager
def claim_missions(task: ShardTask) -> Iterator[None]:
    """Claim the outputs of all missions of a shard for its run. LockedError while another run has one."""
    locks, purpose = task.settings.output.work_dir / "locks", f"summarise on {task.worker.key}"
    with ExitStack() as held:
        for mission in task.missions:
            held.enter_context(claim_output(locks, mission, run_id=task.run_id, purpose=purpose))
        yield


def _tell(notices: list[str], warn: Callable[[str], None]) -> None:
    while notices:
        warn(notices.pop(0))


def fitted(
    batching: BatchingOptions, engine: Engine, task: ShardTask, log: Callable[[str], None]
) -> BatchingOptions:
    """With the batch size that the engine has room for, where the settings leave that to it.

    It is that for whichever missions' photos come together. Raises EngineError.
    """
    if task.settings.engine.batch_size != "auto":
        return batching
    recipes = task.recipes.values()
    rows = engine.fitting_rows(
        {recipe.prompt for recipe in recipes},
        max_pixels=max(recipe.max_pixels for recipe in recipes),
        max_new_tokens=task.settings.engine.max_new_tokens,
    )
    log(f"batch size auto: {rows} photos at once have room on {task.worker.device}")
    return replace(batching, batch_size=rows)


def batching_options(settings: Settings, device: str) -> BatchingOptions:
    """How the settings say photos are gathered on a device.

    A batch size that is to be found there is 32 before the engine is loaded.
    """
    engine, inference = settings.engine, settings.inference
    decode_workers = _decode_workers(settings, device)
    # There they are taken one by one, each for longer than decoding takes: more would only need memory.
    one_by_one = (engine.engine, device, inference.batching_mode) == ("refill", "cpu", "cross_group")
    return BatchingOptions(
        batch_size=_ROWS_UNTIL_FOUND if engine.batch_size == "auto" else engine.batch_size,
        mode=inference.batching_mode,
        decode_workers=decode_workers,
        photos_ahead=2 * decode_workers if one_by_one else None,
        max_tokens=engine.max_batch_tokens,
        max_pixels=engine.max_batch_pixels,
        sort_window=inference.sort_window,
    )


def _decode_workers(settings: Settings, device: str) -> int:
    workers = settings.inference.decode_workers
    if workers != "auto":
        return workers
    if not settings.engine.uses_device:
        sharing = len(settings.engine.devices)
    elif device == "cpu":
        # The other processors are the model's.
        return _FEWEST_DECODERS
    else:
        sharing = sum(other != "cpu" for other in settings.engine.devices)
    return max(_FEWEST_DECODERS, min(_MOST_DECODERS, len(os.sched_getaffinity(0)) // max(1, sharing)))

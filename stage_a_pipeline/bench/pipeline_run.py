"""Ours, as a run of the pipeline asks photos: the scheduler over files, with a journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from stage_a_pipeline.bench.contenders import Contender
from stage_a_pipeline.bench.engine_records import EngineRun, EngineTask, Work
from stage_a_pipeline.bench.forced_lengths import RecordedEngine, StartBatch
from stage_a_pipeline.bench.meter import Meter, Reading
from stage_a_pipeline.bench.photo_files import MISSION, photo_refs
from stage_a_pipeline.bench.plain_generate import WARM_UP_TOKENS, warm_up_prompt
from stage_a_pipeline.engines import Engine, GenerationOptions, Request, generation_options, load_engine
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.images import decode_photo
from stage_a_pipeline.inference.asking import Recipe, request_id
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import batching_options, mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import ImageRef
from stage_a_pipeline.settings import Settings, load_settings


def run_pipeline(task: EngineTask, contender: Contender) -> EngineRun:
    """Measure one of our engines, after a warm-up of two short answers (on CUDA of a full batch).

    Raises StageAError for a photo without an answer.
    """
    settings = contender_settings(task, contender)
    recipe = mission_recipe(load_missions()[MISSION], settings)
    recipe = replace(recipe, prompt=task.prompt or recipe.prompt)
    refs = photo_refs(Path(task.photos_root), task.photos)
    with closing(load_engine(settings.engine, task.device)) as engine:
        start_batch = _static_on_slots(engine) if contender.static_on_slots else None
        _warm_up(RecordedEngine(engine, {}, start_batch=start_batch), task, recipe, refs)
        _forget_warm_up(engine)
        recorded = RecordedEngine(engine, _limits(task, refs), start_batch=start_batch)
        with Journal(Path(task.scratch, "journal"), "bench", [MISSION]) as journal:
            generation, batching = (
                generation_options(settings.engine),
                batching_options(settings, task.device),
            )
            if contender.static_on_slots:
                # Whole batches are taken at once.
                batching = replace(batching, photos_ahead=None)
            scheduler = ShardScheduler(recorded, journal, {MISSION: recipe}, generation, batching)
            meter = Meter(task.device)
            outcomes = list(scheduler.run(refs))
            reading = meter.stop()
    unanswered = [outcome for outcome in outcomes if request_id(outcome.ref) not in recorded.answers]
    if unanswered:
        raise StageAError(f"{len(unanswered)} photos got no answer; the first: {unanswered[0]}")
    return _run(recorded, scheduler.metrics, reading, [request_id(ref) for ref in refs])


def contender_settings(task: EngineTask, contender: Contender) -> Settings:
    """The settings of a run on the task's checkpoint and device, and what the engine changes of them."""
    engine: dict[str, object] = {
        "engine": "refill",
        "checkpoint": task.checkpoint,
        "devices": [task.device],
        "batch_size": task.batch_size,
        "max_new_tokens": task.max_new_tokens,
    }
    changed: dict[str, Mapping[str, object]] = dict(contender.settings)
    changed["engine"] = {**engine, **changed.get("engine", {})}
    return load_settings(environ={}, overrides=changed, overrides_source="bench engines")


def _static_on_slots(engine: Engine) -> StartBatch:
    """Batches on the engine's slots in which rows stay until the longest answer has ended."""
    from stage_a_pipeline.engines.refill import RefillEngine
    from stage_a_pipeline.engines.static_slots import StaticSlotBatch

    assert isinstance(engine, RefillEngine)
    return partial(StaticSlotBatch, engine)


def _warm_up(engine: Engine, task: EngineTask, recipe: Recipe, refs: Sequence[ImageRef]) -> None:
    count = task.batch_size if task.device.startswith("cuda") else 2
    fit = partial(engine.target_size, max_pixels=recipe.max_pixels)
    prompt = warm_up_prompt(recipe.prompt)
    requests = [
        Request(request_id(ref), decode_photo(ON_DISK.read(ref.image.path), fit=fit), prompt)
        for ref in refs[:count]
    ]
    engine.generate(requests, GenerationOptions(max_new_tokens=WARM_UP_TOKENS))


def _forget_warm_up(engine: Engine) -> None:
    """Free the slots that a warm batch keeps on CUDA: they are memory that the run takes."""
    from stage_a_pipeline.engines.refill import RefillEngine

    if isinstance(engine, RefillEngine):
        engine.forget_rows()


def _limits(task: EngineTask, refs: Sequence[ImageRef]) -> dict[str, int]:
    return {
        request_id(ref): photo.answer_tokens
        for ref, photo in zip(refs, task.photos, strict=True)
        if photo.answer_tokens is not None
    }


def _run(engine: RecordedEngine, metrics: ShardMetrics, reading: Reading, ids: Sequence[str]) -> EngineRun:
    work = Work(
        places=metrics.places,
        row_steps=metrics.filled_places,
        useful_row_steps=engine.useful_row_steps,
        tokens=metrics.computed_tokens,
        padding=metrics.padding_tokens,
    )
    return EngineRun(
        answers=tuple(engine.answers[name] for name in ids),
        wall_seconds=reading.wall_seconds,
        cpu_seconds=reading.cpu_seconds,
        waiting_seconds=metrics.waiting_seconds,
        peak_memory_mb=reading.peak_memory_mb,
        work=work,
        retried=metrics.retried,
    )

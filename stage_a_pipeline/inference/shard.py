"""One shard, start to end: claim the output, lease the device, load the model, run the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stage_a_pipeline.engines import engine_hash, generation_options, load_engine
from stage_a_pipeline.inference.devices import Worker, leased
from stage_a_pipeline.inference.journal import Journal, run_fingerprint
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.scheduler import BatchingOptions, Listeners, Recipe, ShardScheduler
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts import build_prompt, prompt_hash
from stage_a_pipeline.records import ImageRef, Outcome
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output

IMAGE_TRANSFORM = "upright-rgb-bicubic/1"
"""Names how bytes become pixels; a change of images.py that changes pixels changes this."""


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a shard hands back: one outcome per photo, and what it took."""

    outcomes: list[Outcome]
    metrics: ShardMetrics


def mission_recipe(mission: Mission, settings: Settings, *, engine: str | None = None) -> Recipe:
    """How a mission's photos are asked. `engine` is the engine's hash, where it is known already.

    Raises ConfigurationError for prompts or a checkpoint that cannot be used.
    """
    prompts = settings.prompts
    prompt = build_prompt(mission, profile=prompts.profile, prompts_file=prompts.prompts_file)
    max_pixels = settings.engine.max_pixels_for(mission.dataset)
    fingerprint = run_fingerprint(
        engine or engine_hash(settings.engine), prompt_hash(prompt), str(max_pixels), IMAGE_TRANSFORM
    )
    return Recipe(prompt, max_pixels, fingerprint)


def run_shard(
    refs: Sequence[ImageRef],
    worker: Worker,
    *,
    recipe: Recipe,
    settings: Settings,
    run_id: str,
    listeners: Listeners,
    log: Callable[[str], None],
) -> ShardResult:
    """Summarise the photos of one mission's shard on one device.

    The mission's output is claimed first, so that a second run is refused at once rather than kept
    waiting for the device. `log` is told what happens, the warning listener what people should know.
    Raises LockedError, ConfigurationError, and what ShardScheduler raises.
    """
    assert refs, "an empty shard is not planned"
    mission = refs[0].group.mission
    work = settings.output.work_dir
    warn = listeners.warning or log
    with (
        claim_output(work / "locks", mission, run_id=run_id, purpose=f"summarise on {worker.key}"),
        Journal(work / "journal" / mission, worker.key) as journal,
        leased(worker, settings.inference.lease_dir, on_wait=warn),
    ):
        if journal.torn_bytes:
            warn(f"cut a torn last line of {journal.torn_bytes} bytes off {journal.path}")
        log(f"{len(journal)} answers are remembered; loading {settings.engine.engine} on {worker.device}")
        engine = load_engine(settings.engine, worker.device)
        try:
            scheduler = ShardScheduler(
                engine,
                journal,
                {mission: recipe},
                generation_options(settings.engine),
                batching_options(settings),
                listeners=listeners,
            )
            return ShardResult(list(scheduler.run(refs)), scheduler.metrics)
        finally:
            engine.close()


def batching_options(settings: Settings) -> BatchingOptions:
    """How the settings say photos are gathered."""
    return BatchingOptions(
        batch_size=settings.engine.batch_size,
        mode=settings.inference.batching_mode,
        decode_workers=settings.inference.decode_workers,
    )

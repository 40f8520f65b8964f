"""One shard, start to end: claim the output, lease the device, load the model, run the photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from stage_a_pipeline.engines import Engine, engine_hash, generation_options, load_engine
from stage_a_pipeline.engines.idle import IdleEngine
from stage_a_pipeline.errors import ConfigurationError, PhotoError
from stage_a_pipeline.images import read_photo
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe, answer_fingerprint
from stage_a_pipeline.inference.devices import Worker, leased
from stage_a_pipeline.inference.journal import Journal, run_fingerprint
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.prompts import build_prompt, prompt_hash
from stage_a_pipeline.records import ImageRef, Outcome
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output

IMAGE_TRANSFORM = "upright-rgb-bicubic/1"
"""Names how bytes become pixels; a change of images.py that changes pixels changes this."""


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
class ShardResult:
    """What a shard hands back: one outcome per photo, and what it took."""

    outcomes: list[Outcome]
    metrics: ShardMetrics


def plan_run(mission: Mission, settings: Settings) -> RunPlan:
    """What the answers of a run over this mission will depend on. Raises ConfigurationError."""
    recipe = mission_recipe(mission, settings)
    return RunPlan(recipe.fingerprint, prompt_hash(recipe.prompt), settings.model_dump(mode="json"))


def require_plan(recipe: Recipe, plan: RunPlan) -> None:
    """ConfigurationError when what the answers depend on has changed since the run was planned."""
    if recipe.fingerprint != plan.fingerprint:
        raise ConfigurationError(
            "settings, prompts or the checkpoint have changed since this run was planned; "
            "start a new run: photos that were finished are not repeated where nothing changed for them"
        )


def mission_recipe(mission: Mission, settings: Settings) -> Recipe:
    """How a mission's photos are asked.

    Raises ConfigurationError for prompts or a checkpoint that cannot be used.
    """
    prompts = settings.prompts
    prompt = build_prompt(mission, profile=prompts.profile, prompts_file=prompts.prompts_file)
    max_pixels = settings.engine.max_pixels_for(mission.dataset)
    fingerprint = run_fingerprint(
        engine_hash(settings.engine), prompt_hash(prompt), str(max_pixels), IMAGE_TRANSFORM
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
        Journal(work / "journal", worker.key, [mission]) as journal,
        ExitStack() as device,
    ):
        for notice in journal.notices:
            warn(notice)
        engine: Engine = IdleEngine()
        if _needs_engine(refs, journal, recipe, settings):
            device.enter_context(leased(worker, settings.inference.lease_dir, on_wait=warn))
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


def _needs_engine(refs: Sequence[ImageRef], journal: Journal, recipe: Recipe, settings: Settings) -> bool:
    """Whether any readable photo has no answer yet: without one, neither device nor model is needed."""
    greedy = generation_options(settings.engine).greedy
    for ref in refs:
        try:
            sha256 = read_photo(ref.image.path).sha256
        except PhotoError:
            continue
        if not journal.knows(sha256, answer_fingerprint(recipe, ref, greedy=greedy)):
            return True
    return False


def batching_options(settings: Settings) -> BatchingOptions:
    """How the settings say photos are gathered."""
    return BatchingOptions(
        batch_size=settings.engine.batch_size,
        mode=settings.inference.batching_mode,
        decode_workers=settings.inference.decode_workers,
    )

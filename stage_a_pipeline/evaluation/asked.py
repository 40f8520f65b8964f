"""Photos of any missions asked together, and who is told of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stage_a_pipeline.cluster.run import run_anywhere
from stage_a_pipeline.inference.asking import Audience as ShardAudience
from stage_a_pipeline.inference.asking import Recipe
from stage_a_pipeline.inference.assembly import clean_outcomes
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.metrics import ProgressListener
from stage_a_pipeline.inference.together import ask_together
from stage_a_pipeline.records import Group, ImageRef, Outcome
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.tables import outcomes_among


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told: `notice` what people should know, and the listeners that `bar` gives.

    `bar` takes a name, and what is counted in it.
    """

    notice: Callable[[str], None]
    bar: Callable[[str, str], ProgressListener]


def ask_photos(
    groups: Sequence[Group],
    recipes: Mapping[str, Recipe],
    settings: Settings,
    audience: Audience,
    *,
    name: str,
    wanted: Callable[[ImageRef], bool] = lambda _: True,
) -> list[Outcome]:
    """The cleaned outcomes of the groups' wanted photos, on all devices; places count these groups.

    Journals are those of every run: what has been answered before is not asked again. Raises what
    run_shard raises.
    """

    def listeners(worker: Worker) -> ShardAudience:
        bar = audience.bar(f"{name} on {worker.key}", "photos")
        return ShardAudience(progress=bar, warning=audience.notice, log=lambda _: None)

    run_id = f"evaluation-{uuid.uuid4()}"
    table, _ = ask_together(
        groups, recipes, settings, listeners, run_id=run_id, wanted=wanted, ask=run_anywhere
    )
    return list(clean_outcomes(outcomes_among(table, groups.__getitem__)))

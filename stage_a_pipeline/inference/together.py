"""Photos of several missions asked together: one model per device, batches filled across missions.

The missions share nothing but that: each is delivered by a run of its own, which finds its outcomes here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError, LockedError
from stage_a_pipeline.inference.asking import Audience, Recipe
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker, list_workers
from stage_a_pipeline.inference.journal import Fingerprint
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.inference.shard import ShardTask, mission_recipes
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import Mission, MissionTable
from stage_a_pipeline.records import Group, ImageRef
from stage_a_pipeline.sampling import sample_groups
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output


def ask_together(
    groups: Sequence[Group],
    recipes: Mapping[str, Recipe],
    settings: Settings,
    audience: Callable[[Worker], Audience],
    *,
    run_id: str,
    wanted: Callable[[ImageRef], bool] = lambda _: True,
) -> tuple[pa.Table, ShardMetrics]:
    """The outcomes of the wanted photos of these groups, in no promised order, and what they took.

    All devices work at the same time. When the shard of one cannot go on, those of the others are
    finished first. Raises what run_task raises.
    """
    workers = list_workers(settings.engine.devices)
    dealt = deal_out(enumerate(groups), shards=len(workers), mode=settings.inference.sharding_mode)
    stop = threading.Event()

    def run(worker: Worker, refs: Sequence[ImageRef]) -> tuple[pa.Table, ShardMetrics]:
        task = Task(ShardTask(worker.key, refs, worker, recipes, settings, run_id), groups)
        folder = settings.output.work_dir / "scratch" / run_id / f"task-{worker.key}"
        others = [other for other in workers if other != worker]
        return run_task(task, others, folder, audience(worker), stop=stop)

    shards = [
        (worker, chosen)
        for worker, refs in zip(workers, dealt, strict=True)
        if (chosen := [ref for ref in refs if wanted(ref)])
    ]
    assert shards, "somebody must be asked"
    if not settings.inference.worker_processes:
        # Engines in this process take turns: what they share is not made for several threads.
        return _joined([run(*shard) for shard in shards])
    with ThreadPoolExecutor(len(shards), thread_name_prefix="shard") as pool:
        running = [pool.submit(run, *shard) for shard in shards]
        try:
            wait(running)
        except BaseException:
            stop.set()
            raise
    return _joined([shard.result() for shard in running])


def _joined(shards: Sequence[tuple[pa.Table, ShardMetrics]]) -> tuple[pa.Table, ShardMetrics]:
    return pa.concat_tables(table for table, _ in shards), merge_metrics(metrics for _, metrics in shards)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a mission's photos were asked by, and what came of it; places count the mission's groups."""

    groups: tuple[Group, ...]
    fingerprint: Fingerprint
    outcomes: pa.Table


class AskedAhead:
    """Outcomes of several missions, for the runs that deliver them one by one."""

    def __init__(self, missions: Mapping[str, _Asked], metrics: ShardMetrics | None) -> None:
        self.metrics = metrics
        self._missions = missions

    def take(self, task: Task) -> tuple[pa.Table, ShardMetrics] | None:
        """The outcomes of a task's photos, and their counts.

        None where its groups, or what answers depend on, are no longer those that were asked.
        """
        (mission,) = task.shard.missions
        asked = self._missions.get(mission)
        if asked is None or asked.groups != tuple(task.groups):
            return None
        if asked.fingerprint != task.shard.recipes[mission].fingerprint:
            return None
        places = {(ref.group_index, ref.image_index) for ref in task.shard.refs}
        columns = (asked.outcomes.column(name).to_pylist() for name in ("group_index", "image_index"))
        own = asked.outcomes.filter(pa.array(place in places for place in zip(*columns, strict=True)))
        return own, _counts(own)


def ask_ahead(
    missions: Sequence[Mission],
    settings: Settings,
    audience: Callable[[Worker], Audience],
    *,
    known: MissionTable,
) -> AskedAhead:
    """Ask the sampled photos of several missions together.

    A mission that has nothing to do, or that another run is writing, is left to the run that delivers it,
    which says so. Raises what ask_together raises.
    """
    run_id, locks = f"ahead-{uuid.uuid4()}", settings.output.work_dir / "locks"
    groups: dict[str, tuple[Group, ...]] = {}
    for mission in missions:
        unclaimed = claim_output(locks, mission.name, run_id=run_id, purpose="plan")
        with suppress(DiscoveryError, LockedError), unclaimed:
            groups[mission.name] = _sampled(mission, settings, known)
    if not groups:
        return AskedAhead({}, None)
    recipes = mission_recipes([mission for mission in missions if mission.name in groups], settings)
    everything = [group for own in groups.values() for group in own]
    outcomes, metrics = ask_together(everything, recipes, settings, audience, run_id=run_id)
    asked, first = {}, 0
    for name, own in groups.items():
        rows = _rows_of(outcomes, first, first + len(own))
        asked[name] = _Asked(own, recipes[name].fingerprint, rows)
        first += len(own)
    return AskedAhead(asked, metrics)


def _sampled(mission: Mission, settings: Settings, known: MissionTable) -> tuple[Group, ...]:
    """The groups that the run of this mission will sample. Raises DiscoveryError."""
    found = discover_groups(
        settings.require_input_root(),
        mission.name,
        missions=known,
        allow_external_symlinks=settings.discovery.allow_external_symlinks,
    )
    sampling = settings.sampling
    sampled = sample_groups(
        found.groups,
        pass_count=sampling.pass_count,
        fail_count=sampling.fail_count,
        seed=sampling.seed,
    )
    sampled.require_groups()
    return sampled.groups


def _rows_of(outcomes: pa.Table, first: int, end: int) -> pa.Table:
    """The outcomes of the groups from `first` to before `end`, counted from there."""
    place = outcomes.column("group_index")
    own = outcomes.filter(pc.and_(pc.greater_equal(place, first), pc.less(place, end)))
    counted = pc.subtract(own.column("group_index"), first)
    return own.set_column(own.schema.get_field_index("group_index"), own.schema.field("group_index"), counted)


def _counts(outcomes: pa.Table) -> ShardMetrics:
    """What can be told of some outcomes by themselves: no times, since they were asked with others."""
    rejected = pc.sum(pc.equal(outcomes.column("status"), "rejected")).as_py() or 0
    reused = pc.sum(outcomes.column("reused")).as_py() or 0
    asked = outcomes.filter(pc.invert(outcomes.column("reused")))
    # A rejected photo that occurs twice was asked once.
    inferred = asked.filter(pc.greater(asked.column("attempts"), 0)).column("content_sha256")
    return ShardMetrics(
        photos=outcomes.num_rows,
        inferred=pc.count_distinct(inferred).as_py(),
        reused=reused,
        rejected=rejected,
        prompt_tokens=pc.sum(asked.column("prompt_tokens")).as_py() or 0,
        generated_tokens=pc.sum(asked.column("generated_tokens")).as_py() or 0,
    )

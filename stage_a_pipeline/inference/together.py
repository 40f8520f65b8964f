"""Photos of several missions asked together: one model per device, batches filled across missions.

The missions share nothing but that: each is delivered by a run of its own, which finds its outcomes here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError, LockedError
from stage_a_pipeline.inference.asking import Audience, Recipe
from stage_a_pipeline.inference.assembly import counted_from
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker, list_workers
from stage_a_pipeline.inference.journal import Fingerprint
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.inference.shard import ShardTask, mission_recipes
from stage_a_pipeline.inference.supervision import RunTask, run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import Mission, MissionTable
from stage_a_pipeline.records import Group, ImageRef
from stage_a_pipeline.sampling import sample_groups
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from stage_a_pipeline.table_files import StoredTable, joined, scratch_table


def ask_together(
    groups: Sequence[Group],
    recipes: Mapping[str, Recipe],
    settings: Settings,
    audience: Callable[[Worker], Audience],
    *,
    run_id: str,
    wanted: Callable[[ImageRef], bool] = lambda _: True,
    ask: RunTask = run_task,
) -> tuple[StoredTable, ShardMetrics]:
    """The outcomes of the wanted photos of these groups, in no promised order, and what they took.

    All devices work at the same time. When the shard of one cannot go on, those of the others are
    finished first. `ask` runs each shard. Raises what it raises.
    """
    workers = list_workers(settings.engine.devices)
    dealt = deal_out(enumerate(groups), shards=len(workers), mode=settings.inference.sharding_mode)
    stop = threading.Event()

    def run(worker: Worker, refs: Sequence[ImageRef]) -> tuple[StoredTable, ShardMetrics]:
        task = Task(ShardTask(worker.key, refs, worker, recipes, settings, run_id), groups)
        folder = settings.output.work_dir / "scratch" / run_id / f"task-{worker.key}"
        others = [other for other in workers if other != worker]
        return ask(task, others, folder, audience(worker), stop=stop)

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


def _joined(shards: Sequence[tuple[StoredTable, ShardMetrics]]) -> tuple[StoredTable, ShardMetrics]:
    return joined([table for table, _ in shards]), merge_metrics(metrics for _, metrics in shards)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a mission's photos were asked by, and what came of it; places count the mission's groups."""

    groups: tuple[Group, ...]
    fingerprint: Fingerprint
    outcomes: StoredTable


class AskedAhead:
    """Outcomes of several missions, for the runs that deliver them one by one."""

    def __init__(self, missions: Mapping[str, _Asked], metrics: ShardMetrics | None) -> None:
        self.metrics = metrics
        self._missions = missions

    def take(self, task: Task) -> tuple[StoredTable, ShardMetrics] | None:
        """The outcomes of a task's photos, and their counts.

        None where its groups, or what answers depend on, are no longer those that were asked.
        """
        (mission,) = task.shard.missions
        asked = self._missions.get(mission)
        if asked is None or asked.groups != tuple(task.groups):
            return None
        if asked.fingerprint != task.shard.recipes[mission].fingerprint:
            return None
        own = _outcomes_of(task.shard.refs, asked.outcomes, task.shard.settings.output.work_dir / "scratch")
        return own, _counts(own)


def ask_ahead(
    missions: Sequence[Mission],
    settings: Settings,
    audience: Callable[[Worker], Audience],
    *,
    known: MissionTable,
    ask: RunTask = run_task,
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
            groups[mission.name] = sampled_groups(mission, settings, known)
    if not groups:
        return AskedAhead({}, None)
    recipes = mission_recipes([mission for mission in missions if mission.name in groups], settings)
    everything = [group for own in groups.values() for group in own]
    outcomes, metrics = ask_together(everything, recipes, settings, audience, run_id=run_id, ask=ask)
    asked, first = {}, 0
    for name, own in groups.items():
        rows = _rows_of(outcomes, first, first + len(own), settings.output.work_dir / "scratch")
        asked[name] = _Asked(own, recipes[name].fingerprint, rows)
        first += len(own)
    return AskedAhead(asked, metrics)


def sampled_groups(mission: Mission, settings: Settings, known: MissionTable) -> tuple[Group, ...]:
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


def _rows_of(outcomes: StoredTable, first: int, end: int, folder: Path) -> StoredTable:
    """The outcomes of the groups from `first` to before `end`, counted from there."""
    place = pc.field("group_index")
    own = (batch.filter((place >= first) & (place < end)) for batch in outcomes.to_batches())
    return scratch_table(outcomes.schema, (counted_from(first, batch) for batch in own), folder)


def _outcomes_of(refs: Sequence[ImageRef], outcomes: StoredTable, folder: Path) -> StoredTable:
    """The outcomes of these photos, which are in discovery order."""
    wanted = np.fromiter((_place(ref.group_index, ref.image_index) for ref in refs), np.int64, len(refs))

    def own() -> Iterator[pa.RecordBatch]:
        for batch in outcomes.to_batches():
            groups, images = (np.asarray(batch.column(name)) for name in ("group_index", "image_index"))
            places = _place(groups, images)
            nearest = np.searchsorted(wanted, places).clip(max=len(wanted) - 1)
            yield batch.filter(pa.array(wanted[nearest] == places))

    return scratch_table(outcomes.schema, own(), folder)


def _place(group_index: Any, image_index: Any) -> Any:
    """One number for a photo's place, or an array of them: a set of pairs would take ten times the memory."""
    return group_index << 32 | image_index


def _counts(outcomes: StoredTable) -> ShardMetrics:
    """What can be told of some outcomes by themselves: no times, since they were asked with others."""
    counts = ShardMetrics(photos=outcomes.num_rows)
    inferred: set[str] = set()
    columns = ["status", "reused", "attempts", "content_sha256", "prompt_tokens", "generated_tokens"]
    for batch in outcomes.to_batches(columns):
        asked = batch.filter(~pc.field("reused"))
        counts.rejected += _sum(pc.equal(batch.column("status"), "rejected"))
        counts.reused += batch.num_rows - asked.num_rows
        counts.prompt_tokens += _sum(asked.column("prompt_tokens"))
        counts.generated_tokens += _sum(asked.column("generated_tokens"))
        # A rejected photo that occurs twice was asked once.
        inferred.update(asked.filter(pc.field("attempts") > 0).column("content_sha256").to_pylist())
    counts.inferred = len(inferred)
    return counts


def _sum(column: pa.Array) -> int:
    return pc.sum(column).as_py() or 0

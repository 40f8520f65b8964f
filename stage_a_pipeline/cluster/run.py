"""A shard task of the run, on the cluster that the settings name or on this machine's devices."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from stage_a_pipeline.cluster.actors import Actors, Events
from stage_a_pipeline.cluster.connection import connected
from stage_a_pipeline.cluster.ledger import Ledger
from stage_a_pipeline.cluster.messages import Brief, Done, versions_here, with_absolute_paths
from stage_a_pipeline.cluster.resources import room_for_actors, shards_ahead
from stage_a_pipeline.cluster.shards import Shard, ShardQueue, cut_shards, shard_size
from stage_a_pipeline.engines import generation_options
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.asking import Audience, Listeners, Questions
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import Progress, ShardMetrics
from stage_a_pipeline.inference.prometheus import shown_metrics
from stage_a_pipeline.inference.remembered import remembered_outcomes
from stage_a_pipeline.inference.shard import ShardTask, batching_options, claim_missions, share_journals
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.inference.tracing import shard_trace
from stage_a_pipeline.photo_source import PhotoSource, photo_source
from stage_a_pipeline.records import ImageRef, Outcome, Rejection
from stage_a_pipeline.table_files import StoredTable
from stage_a_pipeline.tables import outcomes_among


def run_anywhere(
    task: Task,
    others: Sequence[Worker],
    folder: Path,
    audience: Audience,
    *,
    stop: threading.Event | None = None,
) -> tuple[StoredTable, ShardMetrics]:
    """As supervision's run_task, on the cluster where the settings name one.

    Raises what that raises, and ClusterError.
    """
    if task.shard.settings.cluster.address is None:
        return run_task(task, others, folder, audience, stop=stop)
    return run_on_cluster(task, folder, audience, stop=stop)


def run_on_cluster(
    task: Task, folder: Path, audience: Audience, *, stop: threading.Event | None = None
) -> tuple[StoredTable, ShardMetrics]:
    """The outcomes of a task's photos, and what they took; what no journal knows is asked on the cluster.

    What is known already from the first photo on needs no cluster. `folder` is for files of outcomes, and is
    emptied first. Raises ClusterError, LockedError, JournalError, OutputError, EngineContractError, and
    StoppedError soon after `stop` is set.
    """
    shard = task.shard
    questions = Questions(shard.recipes, greedy=generation_options(shard.settings.engine).greedy)
    shutil.rmtree(folder, ignore_errors=True)
    journals = shard.settings.output.work_dir / "journal"
    with (
        claim_missions(shard),
        share_journals(shard, audience.warning),
        shown_metrics(audience, shard) as audience,
        shard_trace(shard, audience.warning),
        Journal(journals, shard.name, shard.missions) as journal,
    ):
        for notice in journal.notices:
            audience.warning(notice)
        ledger = Ledger(journal, questions, folder, photo_source(shard.settings))
        rest = _remembered(shard, journal, ledger, audience)
        run = _Run(task, ledger, audience, time.monotonic(), journal.keys(), journal.crash_counts())
        metrics = _ask(run, rest, stop or threading.Event()) if rest else ledger.counts
        return ledger.outcomes(), metrics


def _remembered(shard: ShardTask, journal: Journal, ledger: Ledger, audience: Audience) -> Sequence[ImageRef]:
    """Write the outcomes of the photos with which the task begins that are known; those that are left."""
    first = shard.refs[0]
    outcomes = remembered_outcomes(
        shard.refs,
        journal,
        shard.recipes,
        generation_options(shard.settings.engine),
        batching_options(shard.settings, shard.worker.device),
        metrics=ShardMetrics(),
        listeners=Listeners(progress=audience.progress, warning=audience.warning),
        photos=ledger.photos,
    )
    ledger.write((first.group_index, first.image_index), outcomes)
    return shard.refs[ledger.counts.photos :]


@dataclass(frozen=True, slots=True)
class _Run:
    """A task on the cluster; `known` are keys of what no actor needs to ask, `crashes` see Brief."""

    task: Task
    ledger: Ledger
    audience: Audience
    started: float
    known: bytes
    crashes: Mapping[bytes, int]

    def commit(self, shard: Shard, done: Done) -> str | None:
        """Write a shard down, unless its host could not read a photo that is there: then what that one is."""
        outcomes = list(outcomes_among(done.outcomes, self.task.groups.__getitem__))
        if (unread := _seen_here(outcomes, self.ledger.photos)) is not None:
            return unread
        self.ledger.commit(shard, outcomes)
        return None

    def give_up(self, ref: ImageRef) -> None:
        """Reject a photo over which actors were lost."""
        rejection = self.ledger.give_up(ref)
        self.audience.warning(f"photo rejected ({rejection.reason}): {rejection.detail}")

    def news(self, heard: int) -> bytes:
        """Keys of the answers that have come since so many bytes of them."""
        return bytes(self.ledger.news[heard:])

    def progress(self, of_actors: ShardMetrics) -> None:
        """Tell how far the run is."""
        if self.audience.progress is not None:
            self.audience.progress(Progress(len(self.task.shard.refs), self.metrics(of_actors)))

    def metrics(self, of_actors: ShardMetrics) -> ShardMetrics:
        """Time and tokens of the actors, what is done by the ledger, and seconds of the run as a whole."""
        counts = self.ledger.counts
        return replace(
            of_actors,
            photos=counts.photos,
            inferred=counts.inferred,
            reused=counts.reused,
            rejected=counts.rejected,
            rejects=dict(counts.rejects),
            seconds=time.monotonic() - self.started,
        )


def _ask(run: _Run, refs: Sequence[ImageRef], stop: threading.Event) -> ShardMetrics:
    """Have the photos asked by actors; what that took."""
    settings = run.task.shard.settings
    with connected(settings.cluster) as ray:
        brief = replace(_brief(run.task.shard), crashes=run.crashes)
        actors = settings.cluster.actors
        wanted = room_for_actors(ray, settings) if actors == "auto" else actors
        size = shard_size(len(refs), actors=wanted, most=settings.cluster.photos_per_shard)
        shards = list(cut_shards(refs, size=size, mode=settings.inference.sharding_mode))
        wanted, ahead = min(wanted, len(shards)), shards_ahead(settings, size)
        run.audience.log(
            f"{len(refs)} photos in {len(shards)} shards for {wanted} actors of the Ray cluster "
            f"{settings.cluster.address}, up to {ahead} at once for each"
        )
        with Actors(ray, brief, run.known, wanted, ahead, run.audience) as pool:
            pool.work(ShardQueue(shards), Events(run.commit, run.give_up, run.news, run.progress), stop)
            metrics = run.metrics(pool.metrics())
            run.progress(pool.metrics())
            run.audience.log(f"photos done by {pool.photos_done()}")
    return metrics


def _brief(shard: ShardTask) -> Brief:
    settings = with_absolute_paths(shard.settings)
    if settings.inference.decode_workers == "auto" and settings.engine.devices[0] != "cpu":
        # An actor's share of its host's processors is what Ray gives it.
        threads = max(2, int(settings.cluster.cpus_per_actor))
        inference = settings.inference.model_copy(update={"decode_workers": threads})
        settings = settings.model_copy(update={"inference": inference})
    return Brief(shard.name, shard.run_id, settings, shard.recipes, versions_here())


def _seen_here(outcomes: Sequence[Outcome], photos: PhotoSource) -> str | None:
    """What a host said of a photo that it could not read, where this machine can, or reads other bytes."""
    for outcome in outcomes:
        if isinstance(outcome, Rejection) and outcome.stage == "read":
            there = outcome.content_sha256
            with suppress(PhotoError):
                if photos.read(outcome.ref.image.path).sha256 != there:
                    here = "this machine " + ("can read it" if there is None else "reads other bytes")
                    return f"{outcome.detail}; {here}: mount the photos there under the same path"
    return None

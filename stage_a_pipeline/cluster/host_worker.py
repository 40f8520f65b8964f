"""The worker process beside an actor: one model, and shards one behind the other for as long as some come.

An actor starts it as `python -m stage_a_pipeline.cluster.host_worker FOLDER DESCRIPTOR`. It differs from
`inference.worker` in where photos come from, a line of standard input per shard, and in where outcomes go:
back to the actor, a shard at a time.
"""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.cluster.host_journal import HostJournal
from stage_a_pipeline.cluster.messages import read_shard_line
from stage_a_pipeline.cluster.scratch import photos_beside
from stage_a_pipeline.cluster.shards import Shard
from stage_a_pipeline.engines import generation_options, load_engine
from stage_a_pipeline.inference.asking import Watch
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import ShardTask, batching_options, fitted
from stage_a_pipeline.inference.task_files import read_task
from stage_a_pipeline.inference.worker import Channel, listeners_on, run_worker
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.records import ImageRef, Outcome
from stage_a_pipeline.tables import outcome_row

KNOWN: Final = "known.bin"
"""File of the task folder: keys of answers that need not be asked for."""

CRASHES: Final = "crashes.json"
"""File of the task folder: how often workers died over photos in earlier runs, by their keys in hex."""

_SECOND: Final = 1.0


class Stream:
    """Photos of the shards that have come, in order; it ends where no further shard has come yet."""

    def __init__(self, lines: queue.SimpleQueue[bytes], journal: HostJournal, channel: Channel) -> None:
        self._lines = lines
        self._journal = journal
        self._channel = channel
        self._shards: dict[tuple[int, int], Shard] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def first(self, watch: Watch) -> Shard:
        """Wait for a shard. Raises StoppedError when the watch does."""
        while True:
            watch.alive()
            try:
                return self._begin(self._lines.get(timeout=_SECOND))
            except queue.Empty:
                continue

    def refs(self, first: Shard) -> Iterator[ImageRef]:
        """The photos of a shard, and of all that follow it without a gap."""
        shard = first
        while True:
            yield from shard.refs
            try:
                shard = self._begin(self._lines.get_nowait())
            except queue.Empty:
                return

    def keep(self, outcome: Outcome, metrics: ShardMetrics) -> None:
        """Take an outcome; those of a complete shard are told, after what was done for them."""
        shard = self._shards.pop((outcome.ref.group_index, outcome.ref.image_index))
        rows = self._rows[shard.id]
        rows.append(outcome_row(outcome))
        if len(rows) == len(shard.refs):
            self._channel.send("progress", total=metrics.photos, metrics=metrics.to_mapping())
            self._channel.send("outcomes", shard=shard.id, rows=self._rows.pop(shard.id))

    def _begin(self, line: bytes) -> Shard:
        shard, news = read_shard_line(line)
        self._journal.learn(news)
        self._rows[shard.id] = []
        self._shards.update({(ref.group_index, ref.image_index): shard for ref in shard.refs})
        return shard


def work(folder: Path, channel: Channel, watch: Watch, lines: queue.SimpleQueue[bytes]) -> ShardMetrics:
    """Summarise what comes until the watch says stop. Raises as run_shard does.

    The model is loaded for the first shard. Batches are filled across shards; only where no shard has come
    in time do they run empty.
    """
    task = read_task(folder).shard
    generation, metrics = generation_options(task.settings.engine), ShardMetrics()
    batching = batching_options(task.settings, task.worker.device)
    photos = photo_source(task.settings, cache_folder=photos_beside(folder.parent))

    def log(sentence: str) -> None:
        channel.send("log", sentence=sentence)

    with ExitStack() as held:
        journal = held.enter_context(_journal(folder, task))
        stream = Stream(lines, journal, channel)
        shard = stream.first(watch)
        log(f"loading {task.settings.engine.engine} on {task.worker.device}")
        engine = held.enter_context(closing(load_engine(task.settings.engine, task.worker.device)))
        batching = fitted(batching, engine, task, log)
        listeners = listeners_on(channel, replace(task, refs=shard.refs), watch)
        while True:
            scheduler = ShardScheduler(
                engine,
                journal,
                task.recipes,
                generation,
                batching,
                photos=photos,
                listeners=listeners,
                metrics=metrics,
            )
            for outcome in scheduler.run(stream.refs(shard)):
                stream.keep(outcome, metrics)
            # What memory has taught holds for those to come.
            batching = replace(batching, batch_size=metrics.batch_size)
            shard = stream.first(watch)


def _journal(folder: Path, task: ShardTask) -> HostJournal:
    crashes: dict[str, int] = json.loads((folder / CRASHES).read_text("utf-8"))
    return HostJournal(
        task.settings.output.work_dir / "journal",
        task.name,
        sorted(task.recipes),
        known=(folder / KNOWN).read_bytes(),
        earlier_crashes={bytes.fromhex(key): count for key, count in crashes.items()},
    )


def main(arguments: list[str]) -> int:
    """Work until standard input ends."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    return run_worker(
        arguments, lambda folder, channel, watch: work(folder, channel, watch, lines), hear=lines.put
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

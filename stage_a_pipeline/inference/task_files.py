"""A shard's task and its outcomes as files: what a worker process is handed, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import pyarrow as pa

from stage_a_pipeline.engines.base import InputTrace
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import ShardTask, mission_recipes, require_fingerprint
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import Group, Outcome
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import atomic_write, ensure_folder
from stage_a_pipeline.table_files import BATCH_ROWS, StoredTable, open_arrow, open_parquet, write_parquet
from stage_a_pipeline.table_schemas import OUTCOMES
from stage_a_pipeline.tables import (
    groups_from_table,
    groups_to_table,
    outcome_row,
    require_groups,
    shard_from_table,
    shard_to_table,
)

_TASK: Final = "task.json"
_GROUPS: Final = "groups.parquet"
_SHARD: Final = "shard.parquet"
_OUTCOMES: Final = "outcomes.arrow"


@dataclass(frozen=True, slots=True)
class Task:
    """A shard, the sampled groups that its places refer to, and the span that its work belongs to."""

    shard: ShardTask
    groups: Sequence[Group]
    traceparent: str | None = None


def write_task(folder: Path, task: Task) -> None:
    """Write a task for `read_task`. Raises OutputError."""
    ensure_folder(folder)
    shard = task.shard
    groups = groups_to_table(task.groups, folder)
    write_parquet(folder / _GROUPS, groups)
    write_parquet(folder / _SHARD, shard_to_table(shard.refs, groups))
    described = {
        "name": shard.name,
        "device": shard.worker.device,
        "ordinal": shard.worker.ordinal,
        "run_id": shard.run_id,
        # A worker starts no runs, and needs none of their secrets.
        "settings": shard.settings.model_dump(mode="json", exclude={"automation"}),
        "fingerprints": {mission: recipe.fingerprint for mission, recipe in shard.recipes.items()},
        "traceparent": task.traceparent,
    }
    with atomic_write(folder / _TASK) as text:
        json.dump(described, text, ensure_ascii=False, indent=2)


def read_task(folder: Path) -> Task:
    """A task as it was written; ConfigurationError when what its answers depend on has changed since."""
    described: dict[str, Any] = json.loads((folder / _TASK).read_text("utf-8"))
    settings = Settings.model_validate(described["settings"])
    missions = load_missions(settings.discovery.missions_file)
    recipes = mission_recipes((missions[name] for name in described["fingerprints"]), settings)
    for name, fingerprint in described["fingerprints"].items():
        require_fingerprint(recipes[name], fingerprint)
    table, places = open_parquet(folder / _GROUPS), open_parquet(folder / _SHARD)
    require_groups(places, table)
    groups = tuple(groups_from_table(table))
    refs = shard_from_table(places, groups)
    worker = Worker(described["device"], described["ordinal"])
    shard = ShardTask(described["name"], refs, worker, recipes, settings, described["run_id"])
    return Task(shard, groups, described["traceparent"])


class OutcomeFile:
    """The outcomes of a shard, written as they come; complete once the block has ended without an error."""

    def __init__(self, folder: Path) -> None:
        self._rows: list[dict[str, Any]] = []
        self._open = ExitStack()
        file: BinaryIO = self._open.enter_context(atomic_write(folder / _OUTCOMES, "wb"))
        self._writer = self._open.enter_context(pa.ipc.new_file(file, OUTCOMES))

    def add(self, outcome: Outcome) -> None:
        """Write one outcome."""
        self._rows.append(outcome_row(outcome))
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def __enter__(self) -> OutcomeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._open.__exit__(kind, error, trace)

    def _flush(self) -> None:
        self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=OUTCOMES))
        self._rows = []


def read_outcomes(folder: Path) -> StoredTable:
    """The outcomes that a worker left, in no promised order."""
    return open_arrow(folder / _OUTCOMES)


def inputs_recorder(task: ShardTask) -> Callable[[Sequence[InputTrace]], None] | None:
    """Writes what reached the model for the first batch, a JSON line per photo, where settings ask for it."""
    if not task.settings.engine.verify_inputs:
        return None
    folder = task.settings.output.work_dir / "inputs" / task.missions[0]
    path = folder / f"{task.name}.jsonl"
    recorded: list[InputTrace] = []

    def record(traces: Sequence[InputTrace]) -> None:
        recorded.extend(traces)
        ensure_folder(folder)
        with atomic_write(path) as file:
            file.writelines(json.dumps(asdict(trace), ensure_ascii=False) + "\n" for trace in recorded)

    return record

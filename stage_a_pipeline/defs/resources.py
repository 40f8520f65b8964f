"""Resources of the assets: the settings, and who is told about progress."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import dagster as dg

from stage_a_pipeline.cluster.run import run_anywhere
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.metrics import ProgressListener, ShardMetrics, progress_lines
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.inference.together import AskedAhead
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.table_files import StoredTable

_BEFORE_RUNS: Final = ("automation", "execution")
"""What starts a run, and where its steps happen, is decided before there is one: no part of run config."""


class SettingsResource(dg.ConfigurableResource[Settings]):
    """All settings. Run config goes on top of the environment, the TOML file and the defaults.

    Each section takes the keys of that section of the settings file, for example
    `resources: {settings: {config: {engine: {batch_size: 8}}}}`. docs/settings.md lists them all.
    """

    settings_file: str | None = None
    discovery: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    inference: dict[str, Any] = {}
    cluster: dict[str, Any] = {}
    fail_reasons: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    grpo: dict[str, Any] = {}
    reassembly: dict[str, Any] = {}
    telemetry: dict[str, Any] = {}
    report: dict[str, Any] = {}
    output: dict[str, Any] = {}

    def load(self) -> Settings:
        """The settings of this run. Raises ConfigurationError."""
        overrides = {name: getattr(self, name) for name in Settings.model_fields if name not in _BEFORE_RUNS}
        return load_settings(environ=os.environ, settings_file=self.settings_file, overrides=overrides)


class LogProgress:
    """Tells the run's log how far it is, at most every few seconds, and what people should know.

    A subclass tells somebody else: the command line shows bars and notices in the terminal. There the
    photos of several missions are `asked_ahead`, before the run of each.
    """

    asked_ahead: AskedAhead | None = None

    def __init__(self, every_seconds: float = 10.0) -> None:
        self._every = every_seconds

    def notice(self, log: dg.DagsterLogManager, sentence: str) -> None:
        """Something that a person should know, and that does not stop the run."""
        log.warning(sentence)

    def run_task(
        self, log: dg.DagsterLogManager, task: Task, others: Sequence[Worker], folder: Path, *, name: str
    ) -> tuple[StoredTable, ShardMetrics]:
        """As run_anywhere, unless the photos were asked ahead."""
        if self.asked_ahead is not None and (found := self.asked_ahead.take(task)) is not None:
            log.info(f"{name}: the photos were asked together with those of other missions")
            return found
        audience = Audience(self.listener(log, name), partial(self.notice, log), log.info)
        outcomes, metrics = run_anywhere(task, others, folder, audience)
        log.info(f"{name}: {metrics.sentence()}")
        return outcomes, metrics

    def listener(self, log: dg.DagsterLogManager, name: str, counted: str = "photos") -> ProgressListener:
        """A listener for one shard, or for something else that is counted."""
        return progress_lines(log.info, name, counted, every_seconds=self._every)

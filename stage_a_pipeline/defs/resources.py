"""Resources of the assets: the settings, and who is told about progress."""

import os
from typing import Any

import dagster as dg

from stage_a_pipeline.inference.metrics import Progress, ProgressListener
from stage_a_pipeline.settings import Settings, load_settings


class SettingsResource(dg.ConfigurableResource[Settings]):
    """All settings. Run config goes on top of the environment, the TOML file and the defaults.

    Each section takes the keys of that section of the settings file, for example
    `resources: {settings: {config: {engine: {batch_size: 8}}}}`. docs/runbook.md lists them all.
    """

    settings_file: str | None = None
    discovery: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    inference: dict[str, Any] = {}
    fail_reasons: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    output: dict[str, Any] = {}

    def load(self) -> Settings:
        """The settings of this run. Raises ConfigurationError."""
        overrides = {section: getattr(self, section) for section in Settings.model_fields}
        return load_settings(environ=os.environ, settings_file=self.settings_file, overrides=overrides)


class LogProgress:
    """Tells the run's log how far it is, at most every few seconds, and what people should know.

    A subclass tells somebody else: the command line shows bars and notices in the terminal.
    """

    def __init__(self, every_seconds: float = 10.0) -> None:
        self._every = every_seconds

    def notice(self, log: dg.DagsterLogManager, sentence: str) -> None:
        """Something that a person should know, and that does not stop the run."""
        log.warning(sentence)

    def listener(self, log: dg.DagsterLogManager, shard: str) -> ProgressListener:
        """A listener for one shard."""
        last_told = -self._every

        def tell(progress: Progress) -> None:
            nonlocal last_told
            if progress.done == progress.total or progress.seconds - last_told >= self._every:
                last_told = progress.seconds
                log.info(f"{shard}: {progress.sentence()}")

        return tell

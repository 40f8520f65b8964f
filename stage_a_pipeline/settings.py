"""Settings: one frozen class per stage, from defaults, a TOML file, the environment, and run config.

Later sources win. Every value is checked when it is read: an unknown key, a wrong type or a value
out of range is a ConfigurationError that names the place, what is known there, and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError, model_validator

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.places import Place, is_url
from stage_a_pipeline.settings_automation import AutomationSettings
from stage_a_pipeline.settings_cluster import ClusterSettings
from stage_a_pipeline.settings_engine import BUILTIN_CHECKPOINT, EngineSettings
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.settings_layers import Layer, explain, merge_layers, path_settings, suggestion
from stage_a_pipeline.settings_paths import is_in_a_home
from stage_a_pipeline.settings_reassembly import ReassemblySettings
from stage_a_pipeline.settings_report import ReportSettings
from stage_a_pipeline.settings_sections import (
    DEFAULT_PROFILE,
    DiscoverySettings,
    EvaluationSettings,
    ExecutionSettings,
    FailReasonSettings,
    InferenceSettings,
    OutputSettings,
    PromptSettings,
    SamplingSettings,
    Section,
)
from stage_a_pipeline.settings_telemetry import TelemetrySettings
from stage_a_pipeline.toml_file import read_toml

__all__ = [
    "BUILTIN_CHECKPOINT",
    "DEFAULT_PROFILE",
    "ENVIRONMENT",
    "SETTINGS_VARIABLE",
    "AutomationSettings",
    "ClusterSettings",
    "DiscoverySettings",
    "EngineSettings",
    "EvaluationSettings",
    "ExecutionSettings",
    "FailReasonSettings",
    "GrpoSettings",
    "InferenceSettings",
    "OutputSettings",
    "PromptSettings",
    "ReassemblySettings",
    "ReportSettings",
    "SamplingSettings",
    "Settings",
    "TelemetrySettings",
    "load_settings",
]


class Settings(Section):
    """All settings of Stage-A with its report, of Stage-B and of the reassembly."""

    discovery: DiscoverySettings = DiscoverySettings()
    sampling: SamplingSettings = SamplingSettings()
    prompts: PromptSettings = PromptSettings()
    engine: EngineSettings = EngineSettings()
    inference: InferenceSettings = InferenceSettings()
    execution: ExecutionSettings = ExecutionSettings()
    cluster: ClusterSettings = ClusterSettings()
    fail_reasons: FailReasonSettings = FailReasonSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    grpo: GrpoSettings = GrpoSettings()
    reassembly: ReassemblySettings = ReassemblySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    report: ReportSettings = ReportSettings()
    automation: AutomationSettings = AutomationSettings()
    output: OutputSettings = OutputSettings()

    @model_validator(mode="after")
    def _an_actor_has_one_device(self) -> Settings:
        if self.cluster.address is not None and len(self.engine.devices) > 1:
            raise ValueError(
                "with a cluster, engine.devices names the one device of each actor: 'cpu', or 'cuda:0' for "
                "the GPU that Ray gives it; cluster.actors says how many there are"
            )
        return self

    @model_validator(mode="after")
    def _vllm_has_a_process_around_it(self) -> Settings:
        # A worker ends vLLM's own processes when nobody waits for it any more, and is replaced when they die.
        if self.engine.engine == "vllm" and not self.inference.worker_processes:
            raise ValueError(
                "engine 'vllm' needs inference.worker_processes = true: in the run's own process nobody "
                "would end vLLM's processes with a killed run, or replace one that has died"
            )
        return self

    @property
    def stage_b_dir(self) -> Path:
        """Folder of what Stage-B learns; always on this machine."""
        return self.grpo.output_dir or self._local_output_dir / "stage_b"

    @property
    def reassembly_dir(self) -> Path:
        """Folder of reassembled objects and their comparisons; always on this machine."""
        return self.reassembly.output_dir or self._local_output_dir / "reassembly"

    @property
    def metrics_dir(self) -> Path | None:
        """Folder of the metrics files that runs write; None where nobody looks at any."""
        is_served = self.telemetry.prometheus_port is not None
        return self.output.prometheus_dir or (self.output.work_dir / "metrics" if is_served else None)

    @property
    def report_dir(self) -> Path:
        """Folder of the missions' reports; always on this machine."""
        return self.report.output_dir or self._local_output_dir / "report"

    @property
    def _local_output_dir(self) -> Path:
        place = self.output.output_dir
        return place if isinstance(place, Path) else self.output.work_dir

    def require_input_root(self) -> Place:
        """The input root, or a ConfigurationError that says how to set it."""
        if self.discovery.input_root is None:
            raise ConfigurationError(
                "no input root is set; give discovery.input_root in the settings file or STAGE_A_INPUT_ROOT"
            )
        return self.discovery.input_root


SETTINGS_VARIABLE: Final = "STAGE_A_SETTINGS"
ENVIRONMENT: Final[Mapping[str, tuple[str, str]]] = {
    "STAGE_A_INPUT_ROOT": ("discovery", "input_root"),
    "STAGE_A_MISSIONS": ("discovery", "missions_file"),
    "STAGE_A_CHECKPOINT": ("engine", "checkpoint"),
    "STAGE_A_DEVICES": ("engine", "devices"),
    "STAGE_A_EXECUTOR": ("execution", "executor"),
    "STAGE_A_RAY_ADDRESS": ("cluster", "address"),
    "STAGE_A_WORKBOOK": ("fail_reasons", "workbook"),
    "STAGE_A_OUTPUT_DIR": ("output", "output_dir"),
    "STAGE_A_WEBHOOK_URL": ("automation", "webhook_url"),
}
"""Environment variables and the settings they set. STAGE_A_SETTINGS names the TOML file."""

_SERVICE_LINK: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Kubernetes tells every container about the services of its namespace in variables of such names:
STAGE_A_PORT for a service `stage-a`, which is nothing that anybody has set."""


def load_settings(
    *,
    environ: Mapping[str, str],
    settings_file: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    overrides_source: str = "run config",
) -> Settings:
    """Defaults, then the TOML file, then the environment, then `overrides`, named so in messages.

    `settings_file` wins over STAGE_A_SETTINGS. Relative paths in the file are relative to its
    folder, elsewhere to the working directory. Raises ConfigurationError.
    """
    file = settings_file or environ.get(SETTINGS_VARIABLE, "").strip()
    layers = [_read_file(Path(file))] if file else []
    layers += [*_read_environment(environ), Layer(overrides_source, overrides or {})]
    values, sources = merge_layers(layers)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error, sources, Settings)) from None
    _require_one_process(settings)
    return settings


def _require_one_process(settings: Settings) -> None:
    """ConfigurationError where worker processes would look for what only this process sees."""
    for place in (settings.discovery.input_root, settings.output.output_dir):
        if settings.inference.worker_processes and str(place).startswith("memory://"):
            raise ConfigurationError(
                f"{place} is seen by its own process only: set inference.worker_processes = false"
            )


def _read_file(path: Path) -> Layer:
    remedy = f"correct its path ({SETTINGS_VARIABLE} or --settings)"
    document = read_toml(path, what="settings file", remedy=remedy)
    base = path.absolute().parent
    for section, keys in document.items():
        if isinstance(keys, dict):
            document[section] = {key: _anchored(section, key, value, base) for key, value in keys.items()}
    return Layer(f"settings file {path}", document)


def _anchored(section: str, key: str, value: object, base: Path) -> object:
    """A relative path of the settings file, or a list of some, as below its folder; all else unchanged."""
    if isinstance(value, list):
        return [_anchored(section, key, item, base) for item in value]
    if not isinstance(value, str) or not value.strip() or is_in_a_home(value) or is_url(value):
        return value
    if (section, key) == ENVIRONMENT["STAGE_A_CHECKPOINT"]:
        # Anything that is no folder beside the file may be a hub id.
        is_path = value != BUILTIN_CHECKPOINT and (value.startswith(".") or (base / value).is_dir())
    else:
        is_path = key in path_settings(Settings, section)
    return str(base / value) if is_path else value


def _read_environment(environ: Mapping[str, str]) -> Iterator[Layer]:
    known = [SETTINGS_VARIABLE, *ENVIRONMENT]
    for variable, value in environ.items():
        if not variable.startswith("STAGE_A_") or not value.strip() or _SERVICE_LINK.fullmatch(variable):
            continue
        if variable not in known:
            raise ConfigurationError(
                f"unknown environment variable {variable}; {suggestion(variable, known)}; "
                "everything else is set in the settings file"
            )
        if variable in ENVIRONMENT:
            section, key = ENVIRONMENT[variable]
            given = _split(value) if key == "devices" else value.strip()
            yield Layer(f"environment variable {variable}", {section: {key: given}})


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]

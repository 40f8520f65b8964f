"""One short training of the built-in checkpoint, which all tests share that only look at what it left."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from click.testing import CliRunner
from filelock import FileLock

from stage_a_pipeline.cli import main
from stage_a_pipeline.demo.groups import compose_group
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import LABELS
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.stage_b.run_folder import RunFolder

TRAINED: Final = "RRU线缆"
STEPS: Final = 6
TICKETS: Final = 12
GRPO: Final[Mapping[str, Any]] = {
    "files": ["tickets.jsonl"],
    "num_generations": 2,
    "prompts_per_step": 2,
    "gradient_accumulation": 1,
    "max_new_tokens": 16,
    "temperature": 2.0,
    "top_p": 1.0,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "lora_last_k": 2,
    "max_steps": STEPS,
    "save_steps": 1,
    "stage_a_photos": 0,
    "bootstrap_samples": 100,
}


class Ended(NamedTuple):
    """How a command ended, and all it said, on one line."""

    code: int
    output: str


class TrainingPlace:
    """A folder with tickets and settings, where `stage-a grpo` works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings_file = folder / "settings.toml"
        self.configure()

    def configure(self, **sections: Mapping[str, Any]) -> None:
        """Write the settings; sections come on top."""
        settings: dict[str, dict[str, Any]] = {
            "engine": {"checkpoint": "builtin"},
            "inference": {"lease_dir": "leases"},
            "output": {"output_dir": "out"},
            "grpo": dict(GRPO),
        }
        for section, values in sections.items():
            settings[section] = settings.get(section, {}) | dict(values)
        # JSON's strings, numbers and lists are TOML's too.
        lines = [
            [
                f"[{section}]",
                *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in rows.items()),
            ]
            for section, rows in settings.items()
        ]
        self.settings_file.write_text(
            "\n".join(line for section in lines for line in section) + "\n", "utf-8"
        )

    @property
    def settings(self) -> Settings:
        """As commands read them."""
        return load_settings(environ={}, settings_file=self.settings_file)

    @property
    def stage_b(self) -> Path:
        """The folder of Stage-B's results."""
        return self.folder / "out" / "stage_b"

    @property
    def run(self) -> RunFolder:
        """The folder of the only training."""
        (path,) = (self.stage_b / "runs").iterdir()
        return RunFolder(self.stage_b, path.name)

    @property
    def adapter(self) -> Path:
        """Where the adapter is offered."""
        return self.stage_b / "adapter"

    def metrics(self) -> list[dict[str, Any]]:
        """What the training tells of its steps; of a line that is being written, nothing."""
        lines = self.run.metrics.read_bytes().splitlines(True) if self.run.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def weights(self) -> bytes:
        """The adapter's."""
        return (self.adapter / "adapter_model.safetensors").read_bytes()

    def grpo(self, *arguments: str) -> Ended:
        """`stage-a grpo` in this process; a training has one of its own in any case."""
        command = ["grpo", arguments[0], "--settings", str(self.settings_file), *arguments[1:]]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(main, command)
        return Ended(result.exit_code, " ".join(result.output.split()))


def write_tickets(path: Path, *, count: int = TICKETS, mission: str = TRAINED, seed: int = 7) -> Path:
    """Canonical JSONL of composed groups of one or two photos, both labels in turn."""
    rng, known = Random(seed), load_missions()
    lines = []
    for number in range(count):
        group = compose_group(rng, known[mission], wanted=LABELS[number % 2], size=1 + number % 2)
        summaries = [scene.summary for scene in group.scenes]
        lines.append(
            {
                "group_id": f"QC-{number:03d}",
                "mission": mission,
                "label": group.verdict.label,
                "images": [f"{place}.jpg" for place in range(1, len(summaries) + 1)],
                "per_image": {f"image_{place}": summary for place, summary in enumerate(summaries, start=1)},
            }
        )
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


def make_place(folder: Path) -> TrainingPlace:
    """A folder where nothing was trained yet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tickets(folder / "tickets.jsonl")
    return TrainingPlace(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlace:
    """A place where a training has ended; look, and change nothing."""
    base = tmp_path_factory.getbasetemp()
    # pytest's processes have folders side by side: the first that needs the training does it for all.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "trained.lock"):
        done = (shared / "trained" / "ended").exists()
        place = TrainingPlace(shared / "trained") if done else make_place(shared / "trained")
        if not done:
            ended = place.grpo("train")
            assert ended.code == 0, ended.output
            (place.folder / "ended").write_text(ended.output, "utf-8")
    return place

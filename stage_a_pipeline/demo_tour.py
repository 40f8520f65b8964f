"""The demo as a tour on the command line: photos, pipeline, results, and the Dagster UI over them."""

from __future__ import annotations

import os
import shutil
import sys
import time
from importlib.resources import files
from itertools import islice
from pathlib import Path

from rich.text import Text

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records
from stage_a_pipeline.report.mission import MissionReport
from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE, Settings, load_settings
from stage_a_pipeline.terminal import console, materialise_with_bar

DEMO_MISSIONS = ("挡风板安装检查", "BBU安装方式检查（正装）")
DEMO_GROUPS = 12
_DEMO_SETTINGS = """\
# Settings of the demo. docs/settings.md explains every one.

[discovery]
input_root = "photos"

[fail_reasons]
workbook = "photos/reviews.xlsx"

[engine]
batch_size = 16
max_new_tokens = 256

[output]
output_dir = "output"
"""


def run_demo(folder: Path) -> int:
    """Render the demo tree, run the whole pipeline on it, and show what came out."""
    photos = folder / "photos"
    shutil.rmtree(folder / "output", ignore_errors=True)
    tree = write_demo_tree(photos, missions=DEMO_MISSIONS, groups=DEMO_GROUPS, seed=1, broken=1)
    print_step("1. Photos", f"  {tree.sentence()}")
    settings_file = folder / "settings.toml"
    settings_file.write_text(_DEMO_SETTINGS, encoding="utf-8")
    # The demo is the same wherever it is run, also after what the README exports.
    for variable in ENVIRONMENT:
        os.environ.pop(variable, None)
    os.environ["DAGSTER_HOME"] = str(dagster_home(folder))
    print_step("2. Pipeline", "every asset of two missions, with the built-in Qwen3-VL checkpoint")
    started = time.monotonic()
    failed = materialise_with_bar(DEMO_MISSIONS, settings_file=settings_file, verbose=False)
    console.print(f"   {tree.photos / (time.monotonic() - started):.1f} photos/s, everything included")
    if not failed:
        _show_results(load_settings(environ=os.environ))
        print_step("4. Dagster UI", " make ui, then open http://127.0.0.1:3000")
    return failed


def serve_demo(folder: Path, *, port: int) -> None:
    """Become `dagster dev` on loopback over the demo's results, so that stopping this stops it."""
    settings_file = folder / "settings.toml"
    if not settings_file.exists():
        raise ConfigurationError(f"there is no demo in {folder}; run `make demo` (stage-a demo run) first")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ENVIRONMENT},
        SETTINGS_VARIABLE: str(settings_file.absolute()),
        "DAGSTER_HOME": str(dagster_home(folder)),
    }
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "dev", "-m", "stage_a_pipeline.definitions", "--host", "127.0.0.1"]
    os.execve(dagster, [*command, "--port", str(port)], environment)


def dagster_home(folder: Path) -> Path:
    """The demo's own DAGSTER_HOME, with its configuration."""
    home = (folder / "dagster_home").absolute()
    home.mkdir(parents=True, exist_ok=True)
    packaged = files("stage_a_pipeline.demo").joinpath("dagster.yaml").read_text("utf-8")
    (home / "dagster.yaml").write_text(packaged, encoding="utf-8")
    return home


def _show_results(settings: Settings) -> None:
    print_step("3. Results")
    for mission in DEMO_MISSIONS:
        paths = output_paths(settings.output.output_dir, mission)
        counts = read_manifest(paths.manifest).counts
        console.print(
            f"   {mission}: {counts.written} groups written, {counts.rejected} rejected", soft_wrap=True
        )
        for kind, path in (
            ("records", paths.jsonl),
            ("rejected", paths.rejected),
            ("manifest", paths.manifest),
            ("report", MissionReport(mission, settings).folder / "index.html"),
        ):
            console.print(f"     {kind:9}{path}", soft_wrap=True)
    example = output_paths(settings.output.output_dir, DEMO_MISSIONS[0]).jsonl
    console.print(f"   three records of {DEMO_MISSIONS[0]}:")
    for record in islice(read_records(example), 3):
        console.print(f"     {record.label} {record.group_id}", style="cyan", soft_wrap=True)
        for key, text in record.per_image.items():
            console.print(f"       {key}: {text}", soft_wrap=True)
        if record.fail_reasons:
            console.print(f"       fail reasons: {' | '.join(record.fail_reasons)}", soft_wrap=True)


def print_step(title: str, text: str = "") -> None:
    """Say what begins now."""
    console.print(Text.assemble((title, "bold"), f" {text}" if text else ""), soft_wrap=True)

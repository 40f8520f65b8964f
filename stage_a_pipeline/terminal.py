"""What the command line shows: progress bars, status tables, and the demo's tour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.inference.metrics import Progress, ProgressListener
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import SETTINGS_VARIABLE, Settings, load_settings
from stage_a_pipeline.status import MissionStatus

DEMO_MISSIONS = ("挡风板安装检查", "BBU安装方式检查（正装）")
DEMO_GROUPS = 12
_DEMO_SETTINGS = """\
# Settings of the demo. docs/runbook.md explains every one.

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

console = Console(highlight=False)


def materialise_with_bar(missions: Sequence[str], *, settings_file: Path | None, verbose: bool) -> int:
    """Materialise the missions, one progress bar per shard; returns how many failed."""
    if settings_file is not None:
        # Partitions and executor are decided when the assets are imported, from the environment.
        os.environ[SETTINGS_VARIABLE] = str(settings_file)
    settings = load_settings(environ=os.environ)
    known = load_missions(settings.discovery.missions_file)
    names = list(dict.fromkeys(known.require(name).name for name in missions))

    from stage_a_pipeline.defs.launch import materialise_missions
    from stage_a_pipeline.defs.resources import LogProgress, SettingsResource

    class BarProgress(LogProgress):
        def notice(self, log: object, sentence: str) -> None:  # noqa: ARG002 - bars need no log
            bars.console.print(sentence, style="yellow", markup=False)

        def listener(self, log: object, shard: str) -> ProgressListener:  # noqa: ARG002 - bars need no log
            return _bar_listener(bars, shard)

    failed = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=verbose) as bars:
        progress = LogProgress() if verbose else BarProgress()
        runs = materialise_missions(names, settings=SettingsResource(), progress=progress, verbose=verbose)
        for run in runs:
            failed += run.error is not None
            bars.console.print(_outcome_line(run.mission, run.error, settings))
    return failed


def print_status(rows: Iterable[MissionStatus], settings: Settings) -> None:
    """The status table, and below it what is wrong where."""
    table = Table()
    table.add_column("mission", no_wrap=True)
    for name in ("groups", "photos", "remembered", "written", "rejected"):
        table.add_column(name, justify="right")
    delivered, problems = [], []
    for row in rows:
        written, rejected = ("-" if count is None else str(count) for count in (row.written, row.rejected))
        counts = (str(row.groups), str(row.photos), str(row.answers), written, rejected)
        table.add_row(escape(row.mission), *counts)
        if row.written is not None:
            delivered.append(row.jsonl)
        if row.problem:
            problems.append(row.problem)
    console.print(table)
    places = {
        "input": [settings.require_input_root()],
        "journals": [settings.output.work_dir / "journal"],
        "delivered": delivered,
    }
    for name, paths in places.items():
        for path in paths:
            console.print(f"{name:10}{path}", markup=False, soft_wrap=True)
    for problem in problems:
        console.print(escape(problem), style="yellow")


def run_demo(folder: Path) -> int:
    """Render the demo tree, run the whole pipeline on it, and show what came out."""
    photos = folder / "photos"
    shutil.rmtree(folder / "output", ignore_errors=True)
    tree = write_demo_tree(photos, missions=DEMO_MISSIONS, groups=DEMO_GROUPS, seed=1, broken=1)
    console.print(f"[bold]1. Photos[/bold]   {escape(tree.sentence())}")
    settings_file = folder / "settings.toml"
    settings_file.write_text(_DEMO_SETTINGS, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(_dagster_home(folder))
    console.print(
        "[bold]2. Pipeline[/bold] every asset of two missions, with the built-in Qwen3-VL checkpoint"
    )
    started = time.monotonic()
    failed = materialise_with_bar(DEMO_MISSIONS, settings_file=settings_file, verbose=False)
    console.print(f"   {tree.photos / (time.monotonic() - started):.1f} photos/s, everything included")
    if not failed:
        _show_results(load_settings(environ=os.environ))
        console.print("[bold]4. Dagster UI[/bold]  make ui, then open http://127.0.0.1:3000")
    return failed


def serve_demo(folder: Path, *, port: int) -> None:
    """Run `dagster dev` on loopback over the demo's results, until interrupted."""
    settings_file = folder / "settings.toml"
    if not settings_file.exists():
        raise ConfigurationError(f"there is no demo in {folder}; run `make demo` (stage-a demo run) first")
    environment = {
        **os.environ,
        SETTINGS_VARIABLE: str(settings_file.absolute()),
        "DAGSTER_HOME": str(_dagster_home(folder)),
    }
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-m", "stage_a_pipeline.definitions"]
    subprocess.run([*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, check=False)


def _dagster_home(folder: Path) -> Path:
    home = (folder / "dagster_home").absolute()
    home.mkdir(parents=True, exist_ok=True)
    packaged = files("stage_a_pipeline.demo").joinpath("dagster.yaml").read_text("utf-8")
    (home / "dagster.yaml").write_text(packaged, encoding="utf-8")
    return home


def _show_results(settings: Settings) -> None:
    console.print("[bold]3. Results[/bold]")
    for mission in DEMO_MISSIONS:
        paths = output_paths(settings.output.output_dir, mission)
        counts = read_manifest(paths.manifest).counts
        console.print(f"   {mission}: {counts.written} groups written, {counts.rejected} rejected")
        for kind, path in (
            ("records", paths.jsonl),
            ("rejected", paths.rejected),
            ("manifest", paths.manifest),
        ):
            console.print(f"     {kind:9}{path}", soft_wrap=True)
    example = output_paths(settings.output.output_dir, DEMO_MISSIONS[0]).jsonl
    console.print(f"   three records of {DEMO_MISSIONS[0]}:")
    for record in islice(read_records(example), 3):
        console.print(f"     {record.label} {record.group_id}", style="cyan", markup=False)
        for key, text in record.per_image.items():
            console.print(f"       {key}: {text}", markup=False, soft_wrap=True)
        if record.fail_reasons:
            console.print(f"       fail reasons: {' | '.join(record.fail_reasons)}", markup=False)


def _bar_listener(bars: Bars, shard: str) -> ProgressListener:
    task = bars.add_task(shard, total=None, rate="")

    def tell(progress: Progress) -> None:
        bars.update(task, completed=progress.done, total=progress.total, rate=f"{progress.rate:.1f} photos/s")

    return tell


def _outcome_line(mission: str, error: str | None, settings: Settings) -> str:
    if error is not None:
        return f"[red]failed[/red] {escape(mission)}: {escape(error)}"
    paths = output_paths(settings.output.output_dir, mission)
    counts = read_manifest(paths.manifest).counts
    return (
        f"[green]done[/green] {escape(mission)}: {counts.written} groups written, {counts.rejected} rejected "
        f"-> {escape(str(paths.jsonl))}"
    )

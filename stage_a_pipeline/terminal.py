"""What the command line shows: progress bars, status tables, evaluations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from stage_a_pipeline.cluster.run import run_anywhere
from stage_a_pipeline.errors import ConfigurationError, EngineError, JournalError, LockedError
from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.metrics import (
    Progress,
    ProgressListener,
    ShardMetrics,
    merge_metrics,
    progress_lines,
)
from stage_a_pipeline.inference.together import AskedAhead, ask_ahead
from stage_a_pipeline.jsonl import output_paths, read_manifest
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.settings import SETTINGS_VARIABLE, Settings, load_settings
from stage_a_pipeline.status import MissionStatus

if TYPE_CHECKING:
    from stage_a_pipeline.evaluation.document import Evaluation

_INTERRUPTED = "finished photos are kept; run the same command again to go on"

console = Console(highlight=False, markup=False, emoji=False)
"""Prints what it is given: a path or a mission's name may hold what would be markup."""


class Notices:
    """Prints what people should know as it happens; of rejected photos, the first twenty of each run."""

    LISTED: Final = 20
    _REJECTED: Final = "photo rejected"
    """How the scheduler's sentences about rejected photos begin."""

    def __init__(
        self, console: Console, *, more: str = "and more; all are listed in the rejected lines"
    ) -> None:
        self._console = console
        self._more = more
        self._rejected = 0

    def start_run(self) -> None:
        """Count rejected photos from nothing."""
        self._rejected = 0

    def show(self, sentence: str) -> None:
        """Print one sentence, unless it tells of one rejected photo too many."""
        if sentence.startswith(self._REJECTED):
            self._rejected += 1
            if self._rejected > self.LISTED + 1:
                return
            if self._rejected > self.LISTED:
                sentence = self._more
        self._console.print(sentence, style="yellow", soft_wrap=True)


def materialise_with_bar(missions: Sequence[str], *, settings_file: Path | None, verbose: bool) -> int:
    """Materialise the missions, one progress bar per shard; returns how many failed.

    Raises ConfigurationError, and KeyboardInterrupt with what to tell when the run is interrupted.
    """
    _check_dagster_home()
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
            notices.show(sentence)

        def listener(self, log: object, name: str, counted: str = "photos") -> ProgressListener:  # noqa: ARG002 - bars need no log
            return bar_listener(bars, name, counted, asked=asked)

    failed, asked = 0, dict[str, ShardMetrics]()
    with shard_bars(hidden=verbose) as bars:
        notices = Notices(bars.console)
        progress = LogProgress() if verbose else BarProgress()
        if len(names) > 1 or len(settings.engine.devices) > 1:
            progress.asked_ahead = _ask_ahead(
                names, settings, bars, notices, asked=None if verbose else asked
            )
        runs = materialise_missions(names, settings=SettingsResource(), progress=progress, verbose=verbose)
        for run in runs:
            failed += run.error is not None
            bars.console.print(_outcome_line(run.mission, run.error, settings), soft_wrap=True)
            for remark in run.remarks:
                bars.console.print(harmless(remark), style="yellow", soft_wrap=True)
            notices.start_run()
        if any(metrics.inferred for metrics in asked.values()):
            bars.console.print(merge_metrics(asked.values()).sentence(), soft_wrap=True)
    return failed


def _ask_ahead(
    names: Sequence[str],
    settings: Settings,
    bars: Bars,
    notices: Notices,
    *,
    asked: dict[str, ShardMetrics] | None,
) -> AskedAhead | None:
    """What came of the photos of all missions, which all devices were asked for together.

    With bars that tell `asked` what was done, or without, in lines. None where they cannot be asked so.
    """
    known = load_missions(settings.discovery.missions_file)
    several = names[0] if len(names) == 1 else f"{len(names)} missions"

    def audience(worker: Worker) -> Audience:
        name = f"{several} on {worker.key}"
        if asked is None:
            return Audience(progress_lines(bars.console.print, name), notices.show, bars.console.print)
        return Audience(bar_listener(bars, name, asked=asked), notices.show, lambda _: None)

    try:
        chosen = [known[name] for name in names]
        found = ask_ahead(chosen, settings, audience, known=known, ask=run_anywhere)
    # One mission's fault must not cost the others: each is asked by its own run, which tells its own.
    except (JournalError, LockedError, EngineError) as error:
        notices.show(f"{several} cannot be asked together: {error}")
        return None
    finally:
        notices.start_run()
    if asked is None and found.metrics is not None:
        bars.console.print(found.metrics.sentence(), soft_wrap=True)
    return found


def evaluate_with_bar(settings: Settings, missions: Sequence[str], *, verdicts: bool) -> Evaluation:
    """Evaluate the missions, one progress bar per shard. Raises what evaluate_tree raises.

    Raises KeyboardInterrupt with what to tell when the evaluation is interrupted.
    """
    from stage_a_pipeline.evaluation import asked, run

    with shard_bars() as bars:
        notices = Notices(bars.console, more="and more; all are listed in the file of --json")
        audience = asked.Audience(notices.show, partial(bar_listener, bars))
        return run.evaluate_tree(settings, missions, audience, verdicts=verdicts)


def print_evaluation(evaluation: Evaluation) -> None:
    """The tables of an evaluation, and what else is to be known."""
    from stage_a_pipeline.evaluation.display import sentences, tables

    for table in tables(evaluation):
        console.print(table)
    for sentence in sentences(evaluation):
        console.print(sentence, style="yellow", soft_wrap=True)


def print_place(name: str, path: Place) -> None:
    """Where something lies."""
    console.print(f"{name:10}{path}", soft_wrap=True)


def print_status(rows: Iterable[MissionStatus], settings: Settings) -> None:
    """The status table, and below it what is wrong where."""
    table = Table()
    table.add_column("mission", no_wrap=True)
    for name in ("groups", "photos", "remembered", "written", "rejected"):
        table.add_column(name, justify="right")
    delivered: list[Place] = []
    problems: list[str] = []
    for row in rows:
        numbers = (row.groups, row.photos, row.answers, row.written, row.rejected)
        counts = ("-" if number is None else str(number) for number in numbers)
        table.add_row(row.mission, *counts)
        if row.written is not None:
            delivered.append(row.jsonl)
        problems += row.problems
    console.print(table)
    places: dict[str, list[Place]] = {
        "input": [settings.require_input_root()],
        "journals": [settings.output.work_dir / "journal"],
        "delivered": delivered,
    }
    for name, paths in places.items():
        for path in paths:
            print_place(name, path)
    # A checkpoint that cannot be used is every mission's problem.
    for problem in dict.fromkeys(problems):
        console.print(problem, style="yellow", soft_wrap=True)


@contextmanager
def shard_bars(*, hidden: bool = False, interrupted: str = _INTERRUPTED) -> Iterator[Bars]:
    """Bars for shards; an interrupt is told with what to do to go on."""
    try:
        with Bars(*_columns(), console=console, disable=hidden) as bars:
            yield bars
    except BaseException as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt(interrupted) from None
        raise


def bar_listener(
    bars: Bars, shard: str, counted: str = "photos", *, asked: dict[str, ShardMetrics] | None = None
) -> ProgressListener:
    """A bar; `asked` is told what the shard has done so far."""
    task = bars.add_task(shard, total=None, rate="")

    def tell(progress: Progress) -> None:
        if asked is not None:
            asked[shard] = progress.metrics
        rate = f"{progress.rate:.1f} {counted}/s"
        bars.update(task, completed=progress.done, total=progress.total, rate=rate)

    return tell


def _outcome_line(mission: str, error: str | None, settings: Settings) -> Text:
    if error is not None:
        return Text.assemble(("failed", "red"), f" {mission}: {error}")
    paths = output_paths(settings.output.output_dir, mission)
    counts = read_manifest(paths.manifest).counts
    told = f"{counts.written} groups written, {counts.rejected} rejected -> {paths.jsonl}"
    return Text.assemble(("done", "green"), f" {mission}: {told}")


def _columns() -> Sequence[ProgressColumn]:
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


def _check_dagster_home() -> None:
    """Refuse a DAGSTER_HOME that Dagster would refuse with a traceback; unset and empty are fine."""
    given = os.environ.get("DAGSTER_HOME")
    if given and not (Path(given).expanduser().is_absolute() and Path(given).expanduser().is_dir()):
        raise ConfigurationError(
            f"environment variable DAGSTER_HOME is {given!r}, which is not the absolute path of an existing "
            "folder; create the folder and give its absolute path, or unset the variable to run without a "
            "history in the Dagster UI"
        )


def _is_interrupt(error: BaseException) -> bool:
    """Ctrl-C; Dagster, which only `defs` imports, raises a kind of its own for it while a run goes on."""
    return isinstance(error, KeyboardInterrupt) or type(error).__name__ == "DagsterExecutionInterruptedError"

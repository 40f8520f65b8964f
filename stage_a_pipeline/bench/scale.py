"""Many photos against a tenth of them: the real command, watched from outside, with the fake engine.

The photos are tiny, so that decoding them is not what is measured, but real: JPEGs of different pixels,
in groups of 1 to 5 with a median of 3 and a mean of 3.3. Seconds are wall time of the steps of
`stage-a materialize`, as Dagster records them; memory is the peak that the kernel keeps of each process
(VmHWM), libraries included.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final, TypeVar

from PIL import Image
from rich.console import Console
from rich.table import Table

from stage_a_pipeline.bench.processes import children_of, command_of, resident_mib
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.discovery import LABEL_FOLDERS
from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.storage import atomic_write, ensure_folder

MISSION: Final = "挡风板安装检查"
GROUP_SIZES: Final = (1, 2, 3, 3, 3, 3, 4, 4, 5, 5)
PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "discovery": ("image_groups", "sampled_groups"),
    "planning": ("stage_a_summaries.plan_shards",),
    "asking": ("stage_a_summaries.summarise_shard",),
    "merging": ("stage_a_summaries.merge_shards", "stage_a_summaries_"),
    "delivering": ("clean_summaries", "enriched_records", "stage_a_jsonl"),
}
"""The steps of each phase, by the beginning of their keys, which checks share with their asset."""
_PIXELS: Final = (32, 24)
_POLL_SECONDS: Final = 0.05
_WORKER: Final = b"stage_a_pipeline.inference.worker"
_MIB: Final = 1024 * 1024

T = TypeVar("T")
StepSeconds = Callable[[Path], Mapping[str, float]]
"""Gives how long each step of the last run took, from a DAGSTER_HOME."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks of resident memory: of the command's process, and of its worker's."""

    parent_mib: float
    worker_mib: float


@dataclass(frozen=True, slots=True)
class ScaleFigures:
    """What so many photos took: seconds by phase, and memory.

    `wall_seconds` are those of the whole command. The journal's figures are of opening what it has left.
    """

    photos: int
    groups: int
    seconds: Mapping[str, float]
    wall_seconds: float
    peaks: Peaks
    journal_seconds: float
    journal_mib: float

    @property
    def photos_per_second(self) -> float:
        """Photos per second of the whole command."""
        return self.photos / self.wall_seconds


@dataclass(frozen=True, slots=True)
class ScaleComparison:
    """The photos asked for, and a tenth of them."""

    tenth: ScaleFigures
    whole: ScaleFigures

    def growth_kib(self, process: str) -> float:
        """KiB of peak memory per photo that were added from the tenth to the whole."""
        few, many = (getattr(figures.peaks, f"{process}_mib") for figures in (self.tenth, self.whole))
        return 1024 * float(many - few) / (self.whole.photos - self.tenth.photos)


def compare_scale(
    photos: int, *, seed: int, step_seconds: StepSeconds, folder: Path | None = None
) -> ScaleComparison:
    """Run the command over a tenth of the photos, and over all of them.

    Everything is written below `folder`, and kept there, or below a temporary one. Raises OutputError,
    and StageAError when the command fails.
    """
    with workplace(folder) as place:
        tenth, whole = (
            _measure(place / str(count), count, seed, step_seconds) for count in (photos // 10, photos)
        )
    return ScaleComparison(tenth, whole)


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """The folder, made where it is missing, or a temporary one. OutputError where it cannot be written."""
    if folder is not None:
        yield ensure_folder(folder.absolute())
        return
    with scratch_folder() as temporary:
        yield temporary


def _measure(place: Path, photos: int, seed: int, step_seconds: StepSeconds) -> ScaleFigures:
    groups = write_tree(place / "in", photos, Random(seed))
    started = time.perf_counter()
    peaks = run_command(place, root=place / "in", watch=watch_peaks)
    wall = time.perf_counter() - started
    seconds = phase_seconds(step_seconds(place / "dagster_home"))
    return ScaleFigures(photos, groups, seconds, wall, peaks, *_open_journal(place))


def phase_seconds(steps: Mapping[str, float]) -> dict[str, float]:
    """The seconds of a run's steps by phase."""
    seconds = {
        phase: sum(took for step, took in steps.items() if step.startswith(names))
        for phase, names in PHASES.items()
    }
    seconds["other steps"] = sum(steps.values()) - sum(seconds.values())
    return seconds


def write_tree(root: Path, photos: int, rng: Random) -> int:
    """Write so many photos of one mission, each different; returns in how many groups."""
    written = groups = 0
    while written < photos:
        label = "审核不通过" if groups % 3 == 0 else "审核通过"
        assert label in LABEL_FOLDERS
        folder = root / MISSION / label / f"QC-20241028-{groups:07d}"
        folder.mkdir(parents=True)
        for number in range(1, min(rng.choice(GROUP_SIZES), photos - written) + 1):
            written += 1
            (folder / f"IMG_{number}.jpg").write_bytes(_jpeg(rng, written))
        groups += 1
    return groups


def _jpeg(rng: Random, number: int) -> bytes:
    """A small picture; the number in its comment makes sure that no other file has the same bytes."""
    picture = Image.frombytes("RGB", (4, 3), rng.randbytes(36)).resize(_PIXELS, Image.Resampling.NEAREST)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=75, comment=str(number))
    return encoded.getvalue()


def run_command(
    place: Path,
    *,
    root: Path,
    watch: Callable[[subprocess.Popen[bytes]], T],
    more_settings: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Run `stage-a materialize` over the photos below `root`; what was watched. StageAError when it fails.

    Everything is written to `place`. `environment` comes on top of this process's.
    """
    home = ensure_folder(place / "dagster_home")
    packaged = files("stage_a_pipeline.demo").joinpath("dagster.yaml").read_text("utf-8")
    (home / "dagster.yaml").write_text(packaged, encoding="utf-8")
    settings = place / "settings.toml"
    quoted = json.dumps(str(root), ensure_ascii=False)
    settings.write_text(
        f'[discovery]\ninput_root = {quoted}\n[engine]\nengine = "fake"\n[output]\noutput_dir = "out"\n'
        f'[inference]\nlease_dir = "leases"\n{more_settings}',
        encoding="utf-8",
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("STAGE_A_", "DAGSTER_"))
    }
    command = [str(Path(sys.executable).with_name("stage-a")), "materialize"]
    log = place / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--mission", MISSION, "--settings", str(settings)],
            stdout=output,
            stderr=output,
            env={**kept, **environment, "DAGSTER_HOME": str(home)},
        )
        try:
            watched = watch(process)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        words = log.read_text("utf-8").strip()[-1000:]
        raise StageAError(f"stage-a materialize ended with code {process.returncode}: {words}")
    return watched


def watch_peaks(process: subprocess.Popen[bytes]) -> Peaks:
    """The peaks of the command and of its worker, until it ends."""
    parent = worker = 0.0
    while process.poll() is None:
        parent = max(parent, resident_mib(process.pid))
        for child in children_of(process.pid):
            # Between fork and exec, a child still looks like its parent.
            if _WORKER in command_of(child):
                worker = max(worker, resident_mib(child))
        time.sleep(_POLL_SECONDS)
    return Peaks(parent, worker)


def _open_journal(place: Path) -> tuple[float, float]:
    """Seconds and MiB that opening the run's journal takes."""
    before, started = resident_mib(os.getpid(), "RssAnon"), time.perf_counter()
    with Journal(place / "out" / "work" / "journal", "cpu", [MISSION]):
        return time.perf_counter() - started, resident_mib(os.getpid(), "RssAnon") - before


def print_scale(comparison: ScaleComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    few, many = comparison.tenth, comparison.whole
    table = Table("", f"{few.photos} photos", f"{many.photos} photos", "ratio")
    for phase in few.seconds:
        _add_row(table, f"{phase} (s)", few.seconds[phase], many.seconds[phase])
    _add_row(table, "whole command (s)", few.wall_seconds, many.wall_seconds)
    _add_row(table, "photos/s", few.photos_per_second, many.photos_per_second)
    _add_row(table, "parent, peak (MiB)", few.peaks.parent_mib, many.peaks.parent_mib)
    _add_row(table, "worker, peak (MiB)", few.peaks.worker_mib, many.peaks.worker_mib)
    _add_row(table, "journal opened (s)", few.journal_seconds, many.journal_seconds)
    _add_row(table, "journal opened (MiB)", few.journal_mib, many.journal_mib)
    console = Console()
    console.print(table)
    console.print(
        f"{many.photos} photos in {many.groups} groups; from {few.photos} photos on, each adds "
        f"{comparison.growth_kib('parent'):.2f} KiB to the parent's peak and "
        f"{comparison.growth_kib('worker'):.2f} KiB to the worker's",
        soft_wrap=True,
    )
    if json_file is not None:
        with atomic_write(json_file) as file:
            json.dump(_as_json(comparison), file, ensure_ascii=False, indent=2)
            file.write("\n")


def _add_row(table: Table, name: str, few: float, many: float) -> None:
    table.add_row(name, f"{few:.1f}", f"{many:.1f}", f"{many / few:.1f}" if few >= 0.05 else "")


def machine() -> dict[str, object]:
    """What figures are of."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }


def _as_json(comparison: ScaleComparison) -> dict[str, object]:
    return {
        "machine": machine(),
        "tenth": asdict(comparison.tenth),
        "whole": asdict(comparison.whole),
        "parent_kib_per_photo": comparison.growth_kib("parent"),
        "worker_kib_per_photo": comparison.growth_kib("worker"),
    }

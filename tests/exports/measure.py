"""How long an export of many groups takes, and how much memory: `python -m tests.exports.measure`.

Writes groups of three small photos (640 x 480) and their delivered files to a temporary folder, exports them
in every format, each in a process of its own, and prints a table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import MISSION, write_photo
from tests.exports.conftest import STATISTICS, Workplace

RUNS = (
    ("parquet",),
    ("parquet", "--images", "embed"),
    ("dataset",),
    ("dataset", "--images", "copy"),
    ("dataset", "--images", "embed"),
    ("label-studio",),
    ("fiftyone",),
    ("fiftyone", "--images", "copy"),
)
PICTURES = 64


def write_tree(place: Workplace, groups: int) -> None:
    """Groups of three photos, half of which passed."""
    pictures = [
        write_photo(place.base / "pictures" / f"{seed}.jpg", seed=seed, size=(640, 480)).read_bytes()
        for seed in range(PICTURES)
    ]
    for number in range(groups):
        label = ("审核通过", "审核不通过")[number % 2]
        folder = place.root / MISSION / label / f"QC-20241028-{number:07d}"
        folder.mkdir(parents=True)
        for photo in range(3):
            # A JPEG ends before what makes each file another one.
            serial = 3 * number + photo
            (folder / f"IMG_{photo}.jpg").write_bytes(pictures[serial % PICTURES] + serial.to_bytes(8))


def measure(place: Workplace, words: tuple[str, ...]) -> str:
    """One row of the table."""
    output = place.base / "-".join(word.strip("-") for word in words)
    program = "from stage_a_pipeline.cli import main; main()"
    command = [sys.executable, "-c", program, "export", *words]
    began = time.monotonic()
    child = subprocess.Popen([*command, "--output", output, "--settings", place.settings_file])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    assert status == 0, command
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return f"| `{' '.join(words)}` | {seconds:.1f} | {cpu:.1f} | {memory:.0f} | {size / 2**20:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    groups = parser.parse_args().groups
    with tempfile.TemporaryDirectory() as base:
        place = Workplace(Path(base))
        write_tree(place, groups)
        place.deliver(MISSION, [STATISTICS])
        rows = [measure(place, words) for words in RUNS]
    print("| export | seconds | CPU seconds | peak memory, MiB | folder, MiB |\n|---|---|---|---|---|")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()

"""Memory does not grow with the number of photos: the whole command, watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from stage_a_pipeline.jsonl import output_paths, read_manifest
from tests.conftest import MISSION, write_photo

STAGE_A = str(Path(sys.executable).with_name("stage-a"))


def with_comment(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file: a comment segment behind the start marker."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def write_tree(root: Path, jpeg: bytes, photos: int) -> None:
    for number in range(photos):
        path = root / MISSION / "审核通过" / f"g{number // 4:04d}" / f"{number % 4}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_comment(jpeg, number))


def anonymous_kib(pid: int) -> int:
    """RssAnon of a process: what its heap holds, without shared libraries and page cache."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def peak_kib(folder: Path, photos: int) -> int:
    settings = folder / f"{photos}.toml"
    settings.write_text(
        f'[discovery]\ninput_root = "in{photos}"\n[output]\noutput_dir = "out{photos}"\n'
        '[engine]\nengine = "fake"\nbatch_size = 16\n[inference]\nlease_dir = "leases"\n'
    )
    command = [STAGE_A, "materialize", "--mission", MISSION, "--settings", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=os.environ)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_kib(process.pid))
        time.sleep(0.005)
    assert process.returncode == 0
    assert read_manifest(output_paths(folder / f"out{photos}", MISSION).manifest).photos.written == photos
    return peak


def test_peak_memory_grows_by_less_than_a_tenth_from_100_to_2000_photos(tmp_path):
    jpeg = write_photo(tmp_path / "one.jpg", seed=1, size=(640, 480)).read_bytes()
    write_tree(tmp_path / "in100", jpeg, 100)
    write_tree(tmp_path / "in2000", jpeg, 2000)
    few, many = peak_kib(tmp_path, 100), peak_kib(tmp_path, 2000)
    assert many <= 1.10 * few, f"{few} KiB for 100 photos, {many} KiB for 2000"

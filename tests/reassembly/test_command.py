"""The command `reassemble`, in real processes and on real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pillow

from stage_a_pipeline.bench.noise_scan import scan_positions, write_patches
from stage_a_pipeline.cli import main
from stage_a_pipeline.reassembly import reassemble_position
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction
from tests.reassembly.exact import random_offsets, random_patches

COMMAND = (sys.executable, "-c", "from stage_a_pipeline.cli import main; main()", "reassemble")
PATCHES, OFFSETS = random_patches(40, 24), random_offsets(40, 20)


def reassemble(*arguments: object) -> Result:
    """The command in this process, which has torch loaded; where that would not tell, in one of its own."""
    return CliRunner().invoke(main, ["reassemble", *map(str, arguments)])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    np.savez(tmp_path / "patches.npz", patches=PATCHES, offsets=OFFSETS)
    np.save(tmp_path / "alone.npy", PATCHES)
    return tmp_path


def test_an_object_its_place_and_its_picture_are_written(scan: Path) -> None:
    done = reassemble(
        scan / "patches.npz", "--out", scan / "o.npz", "--picture", scan / "o.png", "--crop-size", 10
    )
    assert done.exit_code == 0, done.stderr
    whole = reassemble_position(PATCHES, OFFSETS, crop_size=10)
    found = read_reconstruction(scan / "o.npz")
    assert found.object.tobytes() == whole.object.tobytes()
    assert found.anchor == whole.anchor
    side = len(whole.object)
    assert f"{side} x {side} pixels" in done.stdout
    assert f"at x {whole.anchor.left:.3f}, y {whole.anchor.top:.3f}" in done.stdout
    with Pillow.open(scan / "o.png") as picture:
        assert picture.width > picture.height
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50


def test_positions_may_lie_in_the_archive_beside_the_patches_or_elsewhere(scan: Path) -> None:
    np.save(scan / "elsewhere.npy", OFFSETS)
    elsewhere = ("--offsets", scan / "elsewhere.npy")
    assert reassemble(scan / "patches.npz", "--out", scan / "a.npz").exit_code == 0
    assert reassemble(scan / "alone.npy", *elsewhere, "--out", scan / "b.npz").exit_code == 0
    np.save(scan / "offsets.npy", OFFSETS)
    assert reassemble(scan / "alone.npy", "--out", scan / "c.npz", "--batch-size", 7).exit_code == 0
    contents = {(scan / name).read_bytes() for name in ("a.npz", "b.npz", "c.npz")}
    assert len(contents) == 1


def test_quiet_says_nothing(scan: Path) -> None:
    done = reassemble(scan / "patches.npz", "--out", scan / "o.npz", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("patches.npz", "--crop-size", "25"),
            "patches.npz: crop_size: 25 is none of 1 to 24",
        ),
        (("alone.npy",), "alone.npy: has no `offsets`, and no offsets.npy lies beside it"),
        (("alone.npy", "--offsets", "few.npy"), "alone.npy: 40 patches, where"),
        (("missing.npy",), "missing.npy cannot be read: No such file"),
        (("broken.npz",), "broken.npz: patches: number 3 (from 0) has values that are not finite"),
        (("circle",), "circle cannot be read: Too many levels of symbolic links"),
        (("patches.npz", "--device", "tpu"), "device 'tpu'"),
        (("patches.npz", "--device", "cuda:7"), "device 'cuda:7' is not there"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_writes_nothing(
    scan: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan)
    np.save(scan / "few.npy", OFFSETS[:39])
    broken = PATCHES.copy()
    broken[3] = np.nan
    np.savez(scan / "broken.npz", patches=broken, offsets=OFFSETS)
    (scan / "circle").symlink_to("circle")
    (scan / "o.npz").write_text("older")
    done = reassemble(*arguments, "--out", "o.npz")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (scan / "o.npz").read_text() == "older"
    assert {path.name for path in scan.iterdir()} == {
        "alone.npy", "broken.npz", "circle", "few.npy", "o.npz", "patches.npz",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("patches", "flag", "written"),
    [
        ("patches.npz", "--out", "patches.npz"),
        ("alone.npy", "--out", "offsets.npy"),
        ("patches.npz", "--picture", "link"),
    ],
)
def test_what_is_read_is_never_replaced(scan: Path, patches: str, flag: str, written: str) -> None:
    np.save(scan / "offsets.npy", OFFSETS)
    (scan / "link").symlink_to("patches.npz")
    before = (scan / written).read_bytes()
    other = () if flag == "--out" else ("--out", scan / "o.npz")
    done = reassemble(scan / patches, flag, scan / written, *other)
    assert done.exit_code == 2
    assert f"{written} would replace what is read" in done.stderr
    assert (scan / written).read_bytes() == before


def test_a_folder_that_is_not_there_is_told(scan: Path) -> None:
    done = reassemble(scan / "patches.npz", "--out", scan / "missing" / "o.npz")
    assert done.exit_code == 1
    assert "o.npz cannot be written: there is no folder" in done.stderr
    assert "40/40" not in done.stdout


def test_a_killed_command_leaves_the_older_object_and_the_next_one_works(scan: Path) -> None:
    count = 60_000
    write_patches(scan / "many.npy", count, 32, seed=1)
    np.save(scan / "offsets.npy", scan_positions(count, spread=300, seed=1))
    (scan / "o.npz").write_text("older")
    command = [*COMMAND, str(scan / "many.npy"), "--out", str(scan / "o.npz"), "--batch-size", "16"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    # Into the patches: past the imports, before the end.
    while process.poll() is None and not any(file.path.endswith("many.npy") for file in watched.open_files()):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (scan / "o.npz").read_text() == "older"
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert read_reconstruction(scan / "o.npz").object.shape[0] > 300


WATCHED = """
import atexit, os
from stage_a_pipeline.bench.processes import resident_mib
atexit.register(lambda: print(resident_mib(os.getpid())))
from stage_a_pipeline.cli import main
main()
"""


def test_a_handful_of_bytes_that_promise_gigabytes_of_positions_is_not_read(scan: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (20_000_000, 2)}
    with (
        zipfile.ZipFile(scan / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("offsets.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(320):
            member.write(bytes(1_000_000))
    files = (scan / "alone.npy", "--offsets", scan / "bomb.npz", "--out", scan / "o.npz")
    watched = [sys.executable, "-c", WATCHED, "reassemble", *map(str, files)]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "alone.npy: 40 patches, where" in done.stderr
    assert "has 20000000 positions" in done.stderr
    # They alone would take 305 MiB, beside torch.
    assert float(done.stdout.splitlines()[-1]) < 480


MEASURE = """
import os, sys, threading, time
from pathlib import Path
from stage_a_pipeline.bench.processes import resident_mib
from stage_a_pipeline.reassembly import reassemble_position
from stage_a_pipeline.reassembly.sources import read_offsets
now = lambda: resident_mib(os.getpid(), "RssAnon")
import numpy as np
reassemble_position(np.ones((1, 4, 4), np.complex64), [(0, 0)], crop_size=2)
started, peak, ended = now(), [0.0], threading.Event()
def watch():
    while not ended.wait(0.002):
        peak[0] = max(peak[0], now())
thread = threading.Thread(target=watch)
thread.start()
reassemble_position(Path(sys.argv[1]), read_offsets(Path(sys.argv[2])), crop_size=20)
ended.set()
thread.join()
print(peak[0] - started)
"""


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_patches(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for count in (2_000, 20_000):
        patches, offsets = tmp_path / f"patches-{count}.{suffix}", tmp_path / f"offsets-{count}.npy"
        write_patches(patches, count, 32, seed=1)
        np.save(offsets, scan_positions(count, spread=300, seed=1))
        command = [sys.executable, "-c", MEASURE, str(patches), str(offsets)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    size = 20_000 * 32 * 32 * 8 / 2**20
    assert peaks[1] < size / 2
    # Three positions' numbers and what the allocator keeps.
    assert peaks[1] - peaks[0] < 12

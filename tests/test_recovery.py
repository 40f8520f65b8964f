"""A run that is killed, a run beside another, a full disk: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stage_a_pipeline.inference.journal import count_answers
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.storage import device_lease
from tests.conftest import MISSION, write_groups

STAGE_A = str(Path(sys.executable).with_name("stage-a"))
PHOTOS = 30


@pytest.fixture
def workplace(tmp_path):
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 4, 2, 5], "pass": [4, 2, 3, 5, 1]})
    return tmp_path


def command(workplace: Path, *, output: str = "out", seconds_per_photo: float = 0.0) -> subprocess.Popen[str]:
    faults = workplace / f"faults-{output}.toml"
    faults.write_text(f"seconds_per_photo = {seconds_per_photo}\n")
    settings = workplace / f"settings-{output}.toml"
    settings.write_text(
        f'[discovery]\ninput_root = "in"\n[output]\noutput_dir = "{output}"\n'
        f'[engine]\nengine = "fake"\nbatch_size = 2\nfake_faults = "{faults.name}"\n'
        f'[inference]\nlease_dir = "leases-{output}"\n'
    )
    return subprocess.Popen(
        [STAGE_A, "materialize", "--mission", MISSION, "--settings", str(settings)],
        cwd=workplace,
        env=os.environ | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def journal(workplace: Path, output: str = "out") -> Path:
    return workplace / output / "work" / "journal" / MISSION


def wait_for_answers(workplace: Path, count: int, output: str = "out") -> None:
    path = journal(workplace, output) / "cpu.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"{count} answers did not appear in {path}")


def files(workplace: Path, output: str) -> list[bytes]:
    paths = output_paths(workplace / output, MISSION)
    return [paths.jsonl.read_bytes(), paths.rejected.read_bytes()]


@pytest.mark.parametrize("answers", [1, 9, 24])
def test_a_killed_run_continues_and_ends_in_the_same_bytes(workplace, answers):
    killed = command(workplace, seconds_per_photo=0.03)
    wait_for_answers(workplace, answers)
    os.killpg(killed.pid, signal.SIGKILL)
    finish(killed)
    remembered = count_answers(journal(workplace))
    assert answers <= remembered < PHOTOS
    assert not output_paths(workplace / "out", MISSION).jsonl.exists()

    assert finish(command(workplace))[0] == 0
    assert finish(command(workplace, output="undisturbed"))[0] == 0
    assert files(workplace, "out") == files(workplace, "undisturbed")
    lines = (journal(workplace) / "cpu.jsonl").read_text("utf-8").splitlines()
    photos = [json.loads(line)["photo"] for line in lines]
    assert len(photos) == len(set(photos)) == PHOTOS, "no finished photo is inferred again"


def test_a_second_run_beside_the_first_is_refused_and_told_by_whom(workplace):
    first = command(workplace, seconds_per_photo=0.1)
    wait_for_answers(workplace, 2)
    code, output = finish(command(workplace))
    assert code == 1
    assert f"is being written by pid {first.pid} on" in " ".join(output.split())
    assert finish(first)[0] == 0
    assert finish(command(workplace))[0] == 0


def test_the_claim_of_a_dead_run_is_taken_over(workplace):
    killed = command(workplace, seconds_per_photo=0.1)
    wait_for_answers(workplace, 2)
    os.killpg(killed.pid, signal.SIGKILL)
    finish(killed)
    assert finish(command(workplace))[0] == 0


def test_a_run_waits_for_a_device_that_another_process_holds(workplace):
    with device_lease(workplace / "leases-out", "cpu", on_wait=pytest.fail):
        waiting = command(workplace)
        assert waiting.stdout is not None
        told = next((line for line in waiting.stdout if "is taken" in line), "")
        assert f"device cpu is taken; waiting for pid {os.getpid()} on" in told
        # It says so every minute only: until then it is the lease that keeps it.
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)
        assert not (journal(workplace) / "cpu.jsonl").read_bytes()
    assert finish(waiting)[0] == 0
    assert output_paths(workplace / "out", MISSION).jsonl.exists()


def test_ctrl_c_keeps_finished_photos_and_says_so_in_one_line(workplace):
    interrupted = command(workplace, seconds_per_photo=0.1)
    wait_for_answers(workplace, 3)
    os.killpg(interrupted.pid, signal.SIGINT)
    code, output = finish(interrupted)
    assert code == 130
    assert output.splitlines()[-1].startswith("interrupted; finished photos are kept")
    assert "Traceback" not in output
    assert 3 <= count_answers(journal(workplace)) < PHOTOS
    assert finish(command(workplace))[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named_and_loses_nothing(workplace):
    disk = workplace / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        (disk / "filler").write_bytes(b"x" * 40_000)
        code, output = finish(command(workplace, output="small"))
        assert code == 1
        assert (
            f"{disk.name}/work/journal/{MISSION}/cpu.jsonl cannot be written: No space left on device; "
            "free space or check the folder, then run again: finished photos are kept"
        ) in output
        assert not output_paths(disk, MISSION).jsonl.exists()
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert finish(command(workplace, output="small"))[0] == 0
        assert finish(command(workplace, output="roomy"))[0] == 0
        assert files(workplace, "small") == files(workplace, "roomy")
    finally:
        subprocess.run(["umount", str(disk)], check=True)

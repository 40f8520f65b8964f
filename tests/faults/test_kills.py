"""A run that is killed or stopped at any moment: the same command goes on and ends in the same bytes."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest

from stage_a_pipeline.storage import device_lease
from tests.conftest import MISSION
from tests.faults.conftest import (
    BATCH,
    HERE,
    PHOTOS,
    Ended,
    Workplace,
    finish,
    gone,
    kill_everything,
    wait_until,
    workers_of,
)

SLOW = "seconds_per_photo = 0.1\n"


def kill_command_alone(process: psutil.Popen) -> None:
    """Its worker is left to notice."""
    workers = workers_of(process)
    with suppress(psutil.NoSuchProcess):
        process.kill()
    process.wait()
    wait_until(lambda: gone(workers), "the end of the worker", seconds=3)


VICTIMS: dict[str, Callable[[psutil.Popen], None]] = {
    "everything": kill_everything,
    "the command": kill_command_alone,
}


def wait_for_moment(workplace: Workplace, process: psutil.Popen, rng: random.Random) -> None:
    """Some time after the start, or after some more answers, or the end of the run."""
    if rng.random() < 0.5 or workplace.answers().total() == PHOTOS:
        moment = time.monotonic() + rng.uniform(0.2, 3.5)
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(0.005)
        return
    size = sum(path.stat().st_size for path in workplace.journal.glob("*.jsonl"))
    wanted = size + rng.randrange(1, 1500)
    while process.poll() is None:
        if sum(path.stat().st_size for path in workplace.journal.glob("*.jsonl")) >= wanted:
            return
        time.sleep(0.002)


def kill_many_times(workplace: Workplace, seed: int, *, kills: int, devices: int) -> None:
    """Kill the run at seeded moments; after each, look at what was done twice and what is published."""
    rng = random.Random(seed)
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts <= 3 * kills, "runs end before they can be killed"
        finished, asked = workplace.answers(), len(workplace.asked())
        process = workplace.start()
        wait_for_moment(workplace, process, rng)
        alive = process.poll() is None
        VICTIMS[rng.choice(list(VICTIMS))](process)
        ended = finish(process)
        assert alive or ended.code == 0, ended.output
        killed += alive
        newly_asked = Counter(workplace.asked()[asked:])
        assert set(newly_asked.values()) <= {1}
        assert not newly_asked.keys() & finished.keys(), "no finished photo is asked again"
        lost = newly_asked.keys() - workplace.answers().keys()
        assert len(lost) <= BATCH * devices, "only what was under way is lost"
        assert workplace.jsonl.exists() <= (workplace.answers().total() == PHOTOS)
    assert workplace.run().code == 0


@pytest.mark.parametrize(
    ("devices", "kills"),
    [
        pytest.param([1, 2], 4, id="eight"),
        pytest.param([1, 1, 1, 1, 2], 10, id="fifty", marks=pytest.mark.slow),
    ],
)
def test_kills_at_any_moment_lose_at_most_what_was_under_way(make_workplace, undisturbed, devices, kills):
    """Half of the moments lie some time after the start, half some bytes of the journal later.

    One tree of photos for each number of devices. Fifty kills take a minute and a half.
    """
    workplaces = []
    for tree, count in enumerate(devices):
        workplace = make_workplace(name=f"tree {tree}")
        workplace.configure(SLOW, engine={"devices": ["cpu"] * count})
        workplaces.append(workplace)

    def disturb(tree: int) -> None:
        kill_many_times(workplaces[tree], tree, kills=kills, devices=devices[tree])

    with ThreadPoolExecutor(3) as lanes:
        for _ in lanes.map(disturb, range(len(devices))):
            pass
    expected = undisturbed.published()
    for workplace in workplaces:
        assert workplace.published() == expected
        assert set(workplace.answers().values()) == {1}
        assert len(workplace.answers()) == PHOTOS
        asked_twice = len(workplace.asked()) - PHOTOS
        assert asked_twice <= kills * BATCH


def test_a_killed_worker_is_replaced_and_the_run_ends_in_the_same_bytes(workplace, undisturbed):
    workplace.configure(SLOW)
    process = workplace.start()
    workplace.wait_for_answers(13, process)
    (worker,) = workers_of(process)
    worker.kill()
    ended = finish(process)
    assert ended.code == 0
    assert "the worker on cpu was killed by SIGKILL with" in ended.output
    assert workplace.published() == undisturbed.published()
    assert set(workplace.answers().values()) == {1}
    assert len(workplace.asked()) - PHOTOS <= BATCH


def test_a_run_killed_before_its_file_is_in_place_leaves_none_and_repeats_nothing(workplace, undisturbed):
    """Every answer is kept; publishing waits for a lock that this test holds."""
    workplace.configure("seconds_per_photo = 0.02\n")
    process = workplace.start()
    workplace.wait_for_answers(1, process)
    guard = workplace.out / "work" / "locks" / f".{MISSION}.lock-guard"
    with guard.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        wait_until(lambda: waits_for_a_lock(process.pid), "the publishing step", process)
        kill_everything(process)
        process.wait()
    assert workplace.answers().total() == PHOTOS
    assert not workplace.jsonl.exists()
    asked = len(workplace.asked())
    assert workplace.run_here().code == 0
    assert len(workplace.asked()) == asked
    assert workplace.published() == undisturbed.published()


def waits_for_a_lock(pid: int) -> bool:
    with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123 - Path reads it by its size, 0
        return any("->" in line and f" {pid} " in line for line in locks)


@pytest.mark.parametrize(
    "sign", [".stage-a-*.tmp", f"{MISSION}_stage_a.rejected.jsonl", f"{MISSION}_stage_a.jsonl"]
)
def test_a_file_is_complete_or_absent_wherever_publishing_is_killed(workplace, undisturbed, sign):
    """Killed as soon as a temporary file is seen, or the first or the second of the final ones."""
    workplace.configure(inference=HERE)
    process = workplace.start()
    while not list(workplace.out.glob(sign)):
        assert process.poll() is None
    process.kill()
    process.communicate()
    if workplace.jsonl.exists():
        assert workplace.published() == undisturbed.published()
    assert workplace.run_here().code == 0
    assert workplace.published() == undisturbed.published()
    assert len(workplace.asked()) == PHOTOS


def interrupted_by(
    workplace: Workplace, number: signal.Signals, *, devices: Sequence[str] = ("cpu",)
) -> tuple[Ended, str]:
    """How a run that has finished three photos ends on a signal to its process group, and its last line."""
    workplace.configure(SLOW, engine={"devices": list(devices)})
    process = workplace.start()
    workplace.wait_for_answers(3, process)
    family = [process, *workers_of(process)]
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=15)
    assert gone(family)
    assert "Traceback" not in output
    lines = output.splitlines()
    return Ended(process.returncode, output), lines[-1] if lines else ""


def test_ctrl_c_keeps_finished_photos_and_says_so_in_one_line(workplace, undisturbed):
    ended, last_line = interrupted_by(workplace, signal.SIGINT)
    assert ended.code == 130
    assert last_line.startswith("interrupted; finished photos are kept")
    assert 3 <= workplace.answers().total() < PHOTOS
    workplace.configure()
    assert workplace.run_here().code == 0
    assert workplace.published() == undisturbed.published()


def test_sigterm_keeps_finished_photos_frees_the_device_and_leaves_no_process(workplace, undisturbed):
    ended, last_line = interrupted_by(workplace, signal.SIGTERM)
    assert ended.code == 130
    assert last_line.startswith("interrupted; finished photos are kept; run the same command again")
    assert 3 <= workplace.answers().total() < PHOTOS
    with device_lease(workplace.folder / "leases", "cpu", on_wait=pytest.fail):
        pass
    workplace.configure()
    assert workplace.run_here().code == 0
    assert workplace.published() == undisturbed.published()
    assert len(workplace.asked()) - PHOTOS <= BATCH


def test_sigterm_stops_all_devices(workplace, undisturbed):
    ended, last_line = interrupted_by(workplace, signal.SIGTERM, devices=["cpu", "cpu"])
    assert ended.code == 130
    assert last_line.startswith("interrupted; finished photos are kept")
    workplace.configure(engine={"devices": ["cpu", "cpu"]})
    assert workplace.run_here().code == 0
    assert workplace.published() == undisturbed.published()
    assert len(workplace.asked()) - PHOTOS <= 2 * BATCH

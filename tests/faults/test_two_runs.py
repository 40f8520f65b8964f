"""Two runs at once: one writer per mission, one run per device, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from stage_a_pipeline.storage import device_lease
from tests.conftest import MISSION
from tests.faults.conftest import Workplace, finish, kill_everything, workers_of

DAGSTER = (
    "dagster", "asset", "materialize", "-m", "stage_a_pipeline.definitions", "--select", "group:stage_a",
    "--partition", MISSION,
)  # fmt: skip


def begin(workplace: Workplace) -> psutil.Popen:
    """A run under way."""
    workplace.configure("seconds_per_photo = 0.1\n")
    process = workplace.start()
    workplace.wait_for_answers(2, process)
    return process


@pytest.mark.parametrize("command", [(), DAGSTER], ids=["stage-a", "dagster"])
def test_a_second_run_beside_the_first_is_refused_by_name_and_disturbs_nothing(
    workplace, command, undisturbed
):
    """The first stands still meanwhile: however long the second takes, it comes in time."""
    first = begin(workplace)
    first.suspend()
    code, output = finish(workplace.start(*command))
    first.resume()
    assert code == 1
    holder = f"the output of mission {MISSION} is being written by pid {first.pid} on {socket.gethostname()}"
    assert f"{holder} since {datetime.now(UTC).astimezone().date()}T" in output
    assert "wait until that run ends, or stop it, and start again" in output
    assert finish(first).code == 0
    assert workplace.published() == undisturbed.published()


def test_the_claim_of_a_dead_run_is_taken_over_also_when_it_is_from_the_future(workplace):
    first = begin(workplace)
    family = {first.pid, *(worker.pid for worker in workers_of(first))}
    kill_everything(first)
    first.communicate()
    lock = workplace.out / "work" / "locks" / f"{MISSION}.lock"
    (*_, note) = [json.loads(line) for line in lock.read_text("utf-8").splitlines()]
    assert note["pid"] in family
    note["since"] = (datetime.fromisoformat(note["since"]) + timedelta(days=365)).isoformat()
    lock.write_text(json.dumps(note) + "\n", "utf-8")
    workplace.configure()
    assert workplace.run_here().code == 0


def test_a_run_waits_for_a_device_that_another_process_holds(workplace):
    with device_lease(workplace.folder / "leases", "cpu", on_wait=pytest.fail):
        waiting = workplace.start()
        assert waiting.stdout is not None
        told = next((line for line in waiting.stdout if "is taken" in line), "")
        assert f"device cpu is taken; waiting for pid {os.getpid()} on" in told
        # It says so every minute only: until then it is the lease that keeps it.
        with pytest.raises(psutil.TimeoutExpired):
            waiting.wait(timeout=1)
        assert not workplace.asked()
    assert finish(waiting).code == 0
    assert workplace.jsonl.exists()

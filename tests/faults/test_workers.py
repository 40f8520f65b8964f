"""Workers that crash, hang or cannot live: photos are blamed last, devices given up, and no run spins."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import MISSION
from tests.faults.conftest import BATCH, PHOTOS, finish, wait_until, workers_of

TWO_DEVICES = {"devices": ["cpu", "cpu"]}
DAGSTER = (
    "dagster", "asset", "materialize", "-m", "stage_a_pipeline.definitions",
    "--select", "key:stage_a_summaries", "--partition", MISSION,
)  # fmt: skip


def fault(kind: str, match: str = "*") -> str:
    return f'[[fault]]\nmatch = "{match}"\nkind = "{kind}"\n'


@pytest.mark.parametrize(
    ("kind", "told"),
    [("kill", "was killed by SIGKILL"), ("hang", "gave no sign of life for 3 s")],
)
def test_a_photo_that_its_worker_does_not_survive_costs_its_group_alone(workplace, kind, told, undisturbed):
    lost = "QC-20241028-fail003"
    workplace.configure(fault(kind, f"{lost}/IMG_2.jpg*"), inference={"stall_seconds": 3.0})
    ended = workplace.run_here(workers=True)
    assert ended.code == 0
    assert ended.output.count(f"the worker on cpu {told} with") == 2
    assert list(workplace.rejected()) == [(lost, "IMG_2.jpg")]
    row = workplace.rejected()[lost, "IMG_2.jpg"]
    assert (row["stage"], row["reason"]) == ("summarise", "crashed")
    assert "a worker process died 2 times over this photo" in row["detail"]
    others = workplace.records()

    asked = len(workplace.asked())
    assert workplace.run_here().code == 0, "the photo is known, and nobody dies over it again"
    assert len(workplace.asked()) == asked
    expected = undisturbed.records()
    del expected[lost]
    assert others == expected


def test_one_of_two_workers_killed_under_the_multiprocess_executor_costs_nothing(workplace, undisturbed):
    assert workplace.run_here().code == 0, "for the tables of the assets before"
    shutil.rmtree(workplace.journal)
    workplace.asked_file.unlink()
    workplace.jsonl.unlink()
    workplace.configure("seconds_per_photo = 0.1\n", engine=TWO_DEVICES)
    process = workplace.start(*DAGSTER)
    wait_until(lambda: len(list(workplace.journal.glob("cpu*.jsonl"))) == 2, "both shards", process)
    workplace.wait_for_answers(6, process)
    first, *others = workers_of(process)
    assert len(others) == 1, "two workers side by side"
    first.kill()
    ended = finish(process)
    assert ended.code == 0
    assert ended.output.count("was killed by SIGKILL with") == 1
    asked = len(workplace.asked())
    assert asked - PHOTOS <= BATCH
    assert workplace.run_here().code == 0, "the rest of the assets, on the same answers"
    assert len(workplace.asked()) == asked
    assert workplace.published() == undisturbed.published()


def test_a_device_on_which_every_worker_dies_is_left_to_the_next(workplace, undisturbed):
    """This test kills every worker of one shard as soon as it sees it, four times in a row."""
    workplace.configure("seconds_per_batch = 0.3\n", engine=TWO_DEVICES | {"batch_size": 8})
    process = workplace.start()
    killed: set[psutil.Process] = set()

    def first_shard() -> set[psutil.Process]:
        found = set()
        for worker in set(workers_of(process)) - killed:
            # Gone meanwhile, or about to be: then there is no command line to look at.
            with suppress(psutil.NoSuchProcess, IndexError):
                if Path(worker.cmdline()[-2]).name == "task-cpu":
                    found.add(worker)
        return found

    while len(killed) < 4:
        wait_until(first_shard, "a worker", process)
        for worker in first_shard():
            worker.kill()
            killed.add(worker)
    ended = finish(process)
    assert ended.code == 0
    assert ended.output.count("the worker on cpu was killed by SIGKILL") == 4
    assert "cpu_1 goes on with shard cpu" in ended.output
    assert workplace.published() == undisturbed.published()
    assert sorted(path.name for path in workplace.journal.iterdir()) == ["cpu.jsonl", "cpu_1.jsonl"]


def test_a_run_without_a_living_device_fails_soon_and_blames_no_photo(workplace, undisturbed):
    workplace.configure(fault("kill"), engine=TWO_DEVICES)
    started = time.monotonic()
    ended = workplace.run_here(workers=True)
    assert time.monotonic() - started < 60
    assert ended.code == 1
    assert "worker processes died 4 times in a row on every device without finishing a photo" in ended.output
    deaths = [ended.output.count(f"the worker on {device} was killed") for device in ("cpu", "cpu_1")]
    assert deaths == [8, 8], "each device was tried by the shard of the other as well"
    assert not workplace.jsonl.exists()

    workplace.configure(engine=TWO_DEVICES)
    assert workplace.run_here().code == 0
    assert workplace.published() == undisturbed.published()


def test_workers_that_die_again_and_again_lose_only_what_they_died_over(workplace, undisturbed):
    """Each is killed once it has finished a photo; some photos have their second worker killed over them."""
    workplace.configure("seconds_per_photo = 0.05\n", inference={"max_failed_fraction": 1.0})
    process = workplace.start()
    killed = 0
    while killed < 5:
        before = workplace.answers().total()
        wait_until(lambda before=before: workplace.answers().total() > before, "another answer", process)
        for worker in workers_of(process):
            worker.kill()
            killed += 1
    assert finish(process).code == 0
    rejected = workplace.rejected()
    assert {row["reason"] for row in rejected.values()} <= {"crashed"}
    assert len(workplace.answers()) + len(rejected) == PHOTOS
    assert set(workplace.answers().values()) == {1}
    left_out = {group for group, _ in rejected}
    expected = undisturbed.records()
    assert workplace.records() == {group: expected[group] for group in expected if group not in left_out}

"""Worker processes that die, hang and are stopped: real processes, with the fake engine's faults."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError, LockedError, WorkerError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import ShardTask, mission_recipe
from stage_a_pipeline.inference.supervision import run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from tests.conftest import MISSION, write_groups

KILL = '[[fault]]\nmatch = "{match}"\nkind = "kill"\ntimes = 0\n'


class Heard:
    """What the run was told."""

    def __init__(self):
        self.warnings, self.log, self.progress = [], [], []

    @property
    def audience(self):
        return Audience(self.progress.append, self.warnings.append, self.log.append)


@pytest.fixture
def groups(tmp_path):
    return discover_groups(
        write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]}), MISSION
    ).groups


@pytest.fixture
def task(tmp_path, groups):
    """Builds the task of all photos for an engine with these faults."""

    def build(faults="", *, stall_seconds=60.0, run_id="run", **engine):
        (tmp_path / "faults.toml").write_text(faults, "utf-8")
        settings = Settings.model_validate(
            {
                "engine": {
                    "engine": "fake",
                    "batch_size": 4,
                    "fake_faults": tmp_path / "faults.toml",
                    "devices": ["cpu"],
                    **engine,
                },
                "inference": {"lease_dir": tmp_path / "leases", "stall_seconds": stall_seconds},
                "output": {"output_dir": tmp_path / "out", "prometheus_dir": tmp_path / "metrics"},
            }
        )
        recipe = mission_recipe(load_missions()[MISSION], settings)
        refs = deal_out(enumerate(groups), shards=1, mode="per_group")[0]
        return Task(ShardTask("cpu", refs, Worker("cpu"), {MISSION: recipe}, settings, run_id), groups)

    return build


def run(tmp_path, task, heard=None, others=()):
    heard = heard or Heard()
    table, metrics = run_task(task, others, tmp_path / "task", heard.audience)
    return {(row["group_id"], row["image"]): row for row in table.read().to_pylist()}, metrics, heard


def test_outcomes_are_those_of_the_same_process(tmp_path, task):
    rows, metrics, heard = run(tmp_path, task())
    assert metrics.photos == len(rows) == 12
    assert heard.progress[-1].done == 12
    metrics_file = (tmp_path / "metrics" / f"stage_a_{MISSION}_cpu.prom").read_text("utf-8")
    assert f'stage_a_photos_total{{device="cpu",mission="{MISSION}",outcome="inferred"}} 12.0' in metrics_file
    assert heard.warnings == []
    here = task(batch_size=3)
    settings = here.shard.settings
    here = Task(
        ShardTask(
            "cpu",
            here.shard.refs,
            Worker("cpu"),
            here.shard.recipes,
            settings.model_copy(
                update={
                    "inference": settings.inference.model_copy(update={"worker_processes": False}),
                    "output": settings.output.model_copy(update={"output_dir": tmp_path / "here"}),
                }
            ),
            "other",
        ),
        here.groups,
    )
    other_rows, _, _ = run(tmp_path, here)
    assert {key: row["raw_text"] for key, row in rows.items()} == {
        key: row["raw_text"] for key, row in other_rows.items()
    }


def test_a_photo_that_kills_its_process_is_left_out_and_no_other(tmp_path, task, groups):
    killer = groups[1].images[0]
    match = f"{groups[1].group_id}/{killer.name}*"
    rows, metrics, heard = run(tmp_path, task(KILL.format(match=match)))
    rejected = {key: row for key, row in rows.items() if row["status"] == "rejected"}
    assert list(rejected) == [(groups[1].group_id, killer.name)]
    (row,) = rejected.values()
    assert (row["stage"], row["reason"], row["attempts"]) == ("summarise", "crashed", 2)
    assert len(rows) == metrics.photos == 12
    deaths = [warning for warning in heard.warnings if "was killed by SIGKILL" in warning]
    assert len(deaths) == 2
    # The second time it was alone.
    assert deaths[1].count("/") == 1
    again, metrics, heard = run(tmp_path, task(KILL.format(match=match)))
    assert metrics.inferred == 0
    assert [warning for warning in heard.warnings if "killed" in warning] == []
    assert again[next(iter(rejected))]["reason"] == "crashed"


def test_a_hung_worker_is_replaced_within_seconds(tmp_path, task, groups):
    faults = f'[[fault]]\nkind = "hang"\nmatch = "{groups[0].group_id}/IMG_2.jpg*"\n'
    started = time.monotonic()
    rows, _, heard = run(tmp_path, task(faults, stall_seconds=3.0))
    assert time.monotonic() - started < 60
    assert sum("gave no sign of life for" in warning for warning in heard.warnings) == 2
    assert [row["reason"] for row in rows.values() if row["status"] == "rejected"] == ["crashed"]
    assert len(rows) == 12


def test_a_device_on_which_every_worker_dies_is_given_up_without_blaming_photos(tmp_path, task):
    heard = Heard()
    with pytest.raises(WorkerError, match="died 4 times in a row on every device"):
        run(tmp_path, task(KILL.format(match="*")), heard)
    assert sum("was killed by SIGKILL" in warning for warning in heard.warnings) == 4
    rows, metrics, _ = run(tmp_path, task())
    assert {row["status"] for row in rows.values()} == {"summarised"}
    assert metrics.inferred == 12


def test_errors_of_the_worker_are_raised_here(tmp_path, task):
    broken = task()
    (tmp_path / "faults.toml").write_text("nonsense = 1\n")
    with pytest.raises(ConfigurationError, match="unknown key 'nonsense'"):
        run(tmp_path, broken)
    (tmp_path / "faults.toml").write_text("")
    with (
        claim_output(tmp_path / "out" / "work" / "locks", MISSION, run_id="another", purpose="test"),
        pytest.raises(LockedError, match="being written by"),
    ):
        run(tmp_path, broken)


def children_of(pid):
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and f"PPid:\t{pid}\n" in _status(path)
    ]


def _status(path):
    try:
        return (path / "status").read_text()
    except OSError:
        return ""


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from stage_a_pipeline.inference.asking import Audience
    from stage_a_pipeline.inference.supervision import run_task
    from stage_a_pipeline.inference.task_files import read_task
    folder = Path(sys.argv[1])
    audience = Audience(lambda progress: print(progress.done, flush=True), print, print)
    run_task(read_task(folder), [], folder / "again", audience)
    """
)


@pytest.fixture
def slow_run(tmp_path, task):
    """A process that supervises a worker whose photos take half a second each."""
    from stage_a_pipeline.inference.task_files import write_task

    write_task(tmp_path / "given", task("seconds_per_batch = 0.5\n", batch_size=1))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "given")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.strip() == "2":
            break
    workers = children_of(process.pid)
    assert workers
    yield process, workers
    process.kill()


def gone(pids, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path("/proc", str(pid)).exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_supervisor_and_lose_nothing(tmp_path, slow_run, task, killed):
    process, workers = slow_run
    process.send_signal(killed)
    process.wait(20)
    assert gone(workers, 5)
    rows, metrics, heard = run(tmp_path, task())
    assert metrics.reused >= 2
    assert metrics.inferred + metrics.reused == 12
    # Nobody died over a photo: the run was stopped.
    assert {row["status"] for row in rows.values()} == {"summarised"}
    assert not any("waiting" in warning for warning in heard.warnings)

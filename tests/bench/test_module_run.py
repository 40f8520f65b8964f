"""A module that is run as a process: what it says, and the end of all that it starts."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from stage_a_pipeline.bench.module_run import run_module
from stage_a_pipeline.bench.processes import resident_mib
from stage_a_pipeline.errors import StageAError
from tests.faults.conftest import gone, wait_until

STARTS_ANOTHER = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
print("its last words", file=sys.stderr)
{then}
"""
CALL = "import os, sys; from stage_a_pipeline.bench.module_run import run_module\n" + (
    "run_module('starts_another', sys.argv[1], environment=dict(os.environ), what='it')"
)


@pytest.fixture
def folder(tmp_path):
    """A folder with a module that starts a process, and tells its pid in the file `pid`."""

    def write(then):
        (tmp_path / "starts_another.py").write_text(STARTS_ANOTHER.format(then=then))
        return tmp_path

    return write


def environment(folder):
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("then", ["import os; os.kill(os.getpid(), 9)", "sys.exit(3)"])
def test_what_a_dead_module_has_started_is_not_waited_for_and_ends(folder, then):
    place = folder(then)
    began = time.monotonic()
    with pytest.raises(StageAError, match=r"it ended with code (3|-9): its last words"):
        run_module("starts_another", str(place / "pid"), environment=environment(place), what="it")
    assert time.monotonic() - began < 60
    orphan = int((place / "pid").read_text())
    wait_until(lambda: resident_mib(orphan, "VmRSS") == 0, "the end of what it has started")


def test_an_interrupted_command_ends_the_module_and_what_that_has_started(folder):
    place = folder("time.sleep(300)")
    pid = place / "pid"
    command = subprocess.Popen(
        [sys.executable, "-c", CALL, str(pid)], env=environment(place), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: pid.exists() and pid.read_text(), "a process of the module")
        started = psutil.Process(command.pid).children(recursive=True)
        assert len(started) == 2
        command.send_signal(2)
        command.wait(20)
        wait_until(lambda: gone(started), "the end of both")
    finally:
        command.kill()
        command.wait()

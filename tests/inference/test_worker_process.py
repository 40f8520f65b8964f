"""How long a silent worker is waited for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.worker_process import Patience, WorkerProcess


def at_work(most_seconds, *silences):
    """The patience with a worker that has answered, and was silent for so long at its steps before."""
    patience = Patience(most_seconds)
    patience.begin()
    for silent in silences:
        patience.saw(silent)
    patience.answered()
    return patience


def test_loading_and_the_first_batch_may_take_as_long_as_the_settings_allow():
    patience = Patience(600.0)
    patience.saw(300.0)
    assert patience.seconds == 600.0
    patience.begin()
    patience.saw(0.1)
    assert patience.seconds == 600.0


def test_loading_says_nothing_of_how_long_a_step_takes():
    patience = Patience(600.0)
    patience.saw(300.0)
    patience.begin()
    patience.answered()
    assert patience.seconds == 30.0


def test_a_worker_with_short_steps_is_given_up_after_half_a_minute():
    assert at_work(600.0, 0.5, 0.2, 0.5).seconds == 30.0


def test_the_step_that_gave_the_first_answer_counts():
    assert at_work(600.0, 5.0).seconds == 100.0
    assert at_work(600.0, 100.0).seconds == 600.0


def test_many_short_steps_do_not_make_a_long_one_suspicious():
    assert at_work(600.0, 20.0, *[0.01] * 10_000).seconds == 400.0


def test_the_settings_limit_may_be_shorter_than_half_a_minute():
    assert at_work(3.0, 1.0).seconds == 3.0


@pytest.mark.parametrize(("messages", "pause"), [(30, 0.05), (4, 0.7)])
def test_what_the_supervisor_spends_elsewhere_is_no_silence_of_the_worker(
    tmp_path, monkeypatch, messages, pause
):
    """The listener is slower than the patience, while the worker goes on talking."""
    script = tmp_path / "talker.py"
    script.write_text(
        "import os, sys, time\n"
        f"for number in range({messages}):\n"
        '    os.write(int(sys.argv[-1]), b\'{"kind": "log", "sentence": "x"}\\n\')\n'
        f"    time.sleep({pause})\n"
    )
    monkeypatch.setattr("stage_a_pipeline.inference.worker_process.WORKER", [str(script)])
    heard = []

    def slow(sentence):
        heard.append(sentence)
        time.sleep(1.5 if len(heard) == 1 else 0)

    with WorkerProcess(tmp_path, 1.0, threading.Event()) as process:
        death = process.listen(Audience(None, slow, slow))
    assert len(heard) == messages
    assert "ended with code 0" in death.cause


def a_worker(tmp_path, stall_seconds, program):
    """A process of this program, which has the descriptor for messages as its last argument."""
    script = tmp_path / "worker.py"
    script.write_text("import json, os, sys, time\n" + program)
    return WorkerProcess(tmp_path, stall_seconds, threading.Event(), command=[str(script)])


def test_a_worker_that_reads_nothing_keeps_nobody_who_tells_it_something(tmp_path):
    """As one that hangs while it is imported: far more lines than the pipe has room for."""
    pool = ThreadPoolExecutor(1)
    with a_worker(tmp_path, 2.0, "time.sleep(600)\n") as process:
        told = pool.submit(lambda: [process.tell(b"x" * 50_000 + b"\n") for _ in range(50)])
        try:
            told.result(timeout=30)
            death = process.listen(Audience(None, print, print))
        finally:
            # Whoever is kept after all is let go.
            process._process.kill()
    assert "gave no sign of life for 2 s" in death.cause


def test_a_slow_worker_hears_every_line_in_order_while_it_is_listened_to(tmp_path):
    program = (
        "time.sleep(1)\n"
        "for line in sys.stdin.buffer:\n"
        "    number = int(line.split()[0])\n"
        "    told = json.dumps({'kind': 'log', 'sentence': str(number)})\n"
        "    os.write(int(sys.argv[-1]), told.encode() + b'\\n')\n"
        "    if number == 59: break\n"
    )
    heard = []
    with a_worker(tmp_path, 60.0, program) as process, ThreadPoolExecutor(1) as pool:
        for number in range(30):
            process.tell(b"%d " % number + b"x" * 50_000 + b"\n")
        later = pool.submit(
            lambda: [process.tell(b"%d " % number + b"x" * 50_000 + b"\n") for number in range(30, 60)]
        )
        process.listen(Audience(None, print, heard.append))
        later.result()
    assert heard == list(map(str, range(60)))

"""`stage-a bench engines` as it is run: real processes, real files, and its ways to fail."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from click.testing import CliRunner

from stage_a_pipeline.bench import engines, module_run
from stage_a_pipeline.bench.engine_records import write_json
from stage_a_pipeline.cli import main
from tests.bench.test_engine_figures import KEYS
from tests.faults.conftest import wait_until
from tests.test_storage import file_size_limit

RAN = ("one by one", "static", "refill", "refill + prefix")


def bench(*arguments):
    return CliRunner().invoke(main, ["bench", "engines", "--shape", "tiny", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--shape", "tiny", "--photos", "6", "--groups", "2", "--rounds", "1"]
    for name in RAN:
        arguments += ["--engines", name]
    files = ["--json", str(folder / "rows.json"), "--picture", str(folder / "rows.svg")]
    program = "from stage_a_pipeline.cli import main; main()"
    command = [sys.executable, "-c", program, "bench", "engines", *arguments, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder


def test_the_rows_have_the_agreed_keys_and_all_engines_say_the_same(finished):
    _, folder = finished
    rows = json.loads((folder / "rows.json").read_text("utf-8"))
    assert [row["engine"] for row in rows] == list(RAN)
    for row in rows:
        assert list(row)[: len(KEYS)] == KEYS
        assert row["same_text_as_single"] == 1.0
        assert row["photos_per_second"] > 0
        assert 0 < row["batch_fill"] <= 1
        assert 0 <= row["device_wait_share"] < 1
        assert (row["photos"], row["groups"], row["shape"], row["dtype"]) == (6, 2, "tiny", "float32")
        assert row["omp_num_threads"] == "1"
        assert 55 <= row["prompt_prefix_tokens"] <= 64


def test_refill_wastes_no_row_step_and_a_static_batch_does(finished):
    _, folder = finished
    rows = {row["engine"]: row for row in json.loads((folder / "rows.json").read_text("utf-8"))}
    assert rows["refill"]["wasted_row_steps"] == rows["refill + prefix"]["wasted_row_steps"] == 0
    assert rows["one by one"]["wasted_row_steps"] == rows["one by one"]["padding_share"] == 0
    assert rows["static"]["wasted_row_steps"] > 0.1
    assert rows["static"]["padding_share"] > rows["refill"]["padding_share"]


def test_table_and_picture_say_under_which_conditions_it_was(finished):
    done, folder = finished
    assert "shape tiny, float32 on cpu; 6 photos in 2 groups, at most 8 at once" in done.stdout
    assert "OMP_NUM_THREADS=1" in done.stdout
    picture = ElementTree.parse(folder / "rows.svg")
    texts = [node.text for node in picture.iter() if node.tag.endswith("text")]
    assert set(RAN) <= set(texts)


def test_an_engine_that_dies_fails_the_command_with_its_last_words(tmp_path, monkeypatch):
    def write_without_checkpoint(path: Path, task: engines.EngineTask) -> None:
        write_json(path, replace(task, checkpoint=str(tmp_path / "nowhere")))

    monkeypatch.setattr(engines, "write_json", write_without_checkpoint)
    rows = tmp_path / "rows.json"
    done = bench("--photos", 2, "--engines", "refill", "--json", rows)
    assert done.exit_code == 1
    assert "Error: refill ended with code 1: Error: checkpoint folder" in done.output
    assert "nowhere does not exist" in done.output
    assert not rows.exists()


@pytest.mark.parametrize(("same", "code"), [(1.0, 0), (0.5, 1), (None, 0)])
@pytest.mark.parametrize(("exact", "must_be_same"), [(True, True), (False, True), (True, False)])
def test_other_answers_fail_the_command_in_float32_where_they_must_be_the_same(
    monkeypatch, same, code, exact, must_be_same
):
    from stage_a_pipeline.bench.engine_figures import EngineRow

    row = EngineRow("refill", 1, 1, 1, 1, 0, 0, 0, 1, same, must_be_same, (1,), (1,), 0, None)
    conditions = dict.fromkeys(
        ("shape", "device", "dtype", "photos", "groups", "batch_size", "rounds", "prompt_prefix_tokens")
    )
    comparison = engines.EngineComparison((row,), {}, conditions, exact)
    monkeypatch.setattr(engines, "compare_engines", lambda _, tell: comparison)
    done = bench()
    assert done.exit_code == (code if exact and must_be_same else 0), done.output
    assert ("DIFFERENT ANSWERS" in done.output) == (done.exit_code == 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--device", "gpu"), 1, "--device"),
        (("--device", "cuda:77"), 1, "cuda:77"),
        (("--engines", "refil"), 1, "did you mean 'refill'"),
        (("--photos", 2, "--groups", 3), 1, "2 photos do not fill 3 groups"),
        (("--endpoint", "http://localhost:1"), 2, "belong together"),
        (("--endpoint", "localhost:1", "--endpoint-model", "m"), 1, "must begin with http"),
        (("--engines", "refill + prefix, grammar"), 1, "nothing is left to compare"),
        (("--json", "same", "--picture", "same"), 2, "give each its own"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(arguments, code, words):
    done = bench(*arguments)
    assert done.exit_code == code
    assert words in done.output
    assert "Traceback" not in done.output


def test_every_process_gets_the_same_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    seen = []
    real = subprocess.Popen

    def spy(command, **options):
        seen.append(options["env"])
        return real([sys.executable, "-c", "raise SystemExit(3)"], **options)

    monkeypatch.setattr(module_run.subprocess, "Popen", spy)
    done = bench("--photos", 2, "--engines", "refill")
    assert "refill ended with code 3" in done.output
    (environment,) = seen
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MALLOC_MMAP_THRESHOLD_"] == "8589934592"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "17179869184"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("largest", [1000, 500_000], ids=["for a photo", "for the checkpoint"])
def test_a_disk_without_room_for_its_own_files_is_named(tmp_path, monkeypatch, largest):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with file_size_limit(largest):
        result = bench("--photos", "4", "--engines", "refill")
    assert result.exit_code == 1
    assert f"Error: {tmp_path} cannot be written: File too large; raise the limit" in result.stderr
    assert list(tmp_path.glob("stage-a-bench-*")) == []


def test_an_engine_under_way_does_not_outlive_the_killed_command(tmp_path):
    program = "from stage_a_pipeline.cli import main; main()"
    arguments = ["bench", "engines", "--shape", "tiny", "--photos", "500", "--engines", "one by one"]
    command = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
    )

    def engines_under_way():
        return [
            child
            for child in psutil.Process(command.pid).children()
            if "stage_a_pipeline.bench.engine_run" in child.cmdline()
        ]

    wait_until(engines_under_way, "an engine process")
    (engine,) = engines_under_way()
    wait_until(lambda: engine.cpu_times().user > 5, "an engine at work, which has loaded its libraries")
    command.kill()
    command.communicate(timeout=20)
    psutil.wait_procs([engine], timeout=60)
    assert not engine.is_running()
    assert list(tmp_path.glob("stage-a-bench-*/*/run.json")) == [], "it was not waited for, but ended"

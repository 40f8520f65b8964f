"""`stage-a compare-models` on models of all kinds."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from stage_a_pipeline.reassembly.comparison_files import claim_comparison
from tests.reassembly.models import save_exported, save_torchscript
from tests.reassembly.scans import make_scan, write_patches

PROGRAM = [sys.executable, "-W", "error", "-c", "from stage_a_pipeline.cli import main; main()"]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    scan = make_scan(tmp_path_factory.mktemp("scans") / "scan")
    save_torchscript(scan.folder / "pinn" / "model.pt")
    save_exported(scan.folder / "baseline" / "model.pt2", kind="pair")
    np.savez(scan.folder / "tike.npz", reconstructed_object=scan.truth, algorithm="tike")
    return scan


def command(scan, out, *more, pinn="pinn", baseline="baseline"):
    return [
        *PROGRAM,
        "compare-models",
        *("--pinn_dir", str(scan.folder / pinn), "--baseline-dir", str(scan.folder / baseline)),
        *("--test_data", str(scan.test_data), "--output_dir", str(out)),
        *("--stitch-crop-size", "12", "--device", "cpu", *more),
    ]


def run(*arguments, **chosen):
    """In a process of its own, where a warning is an error."""
    return subprocess.run(command(*arguments, **chosen), capture_output=True, text=True, check=False)


def run_here(*arguments, **chosen):
    return CliRunner().invoke(main, command(*arguments, **chosen)[len(PROGRAM) :])


def rows(out):
    with (out / "comparison_metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_models_of_both_kinds_and_a_third_object_are_compared(scan, tmp_path):
    third = ("--tike_recon_path", str(scan.folder / "tike.npz"))
    done = run(
        scan, tmp_path / "out", *third, "--pinn-chunk-size", "50", "--baseline-predict-batch-size", "7"
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(tmp_path / "out")
    by_arm = [[row for row in found if row["model"] == name] for name in ("PtychoPINN", "Baseline", "Tike")]
    assert [len(arm) for arm in by_arm] == [10, 10, 9]
    # Both predict the same, from files of two kinds and in batches of other sizes.
    assert [row["amplitude"] for row in by_arm[0]] == [row["amplitude"] for row in by_arm[1]]
    assert float(by_arm[0][-1]["value"]) > 0
    for word in ("PtychoPINN", "Baseline", "Tike", "MS-SSIM", "comparison_plot.png"):
        assert word in done.stdout


def test_quiet_says_nothing(scan, tmp_path):
    done = run(scan, tmp_path / "out", "--quiet", "--no-save-npz", "--no-save-npz-aligned")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list((tmp_path / "out").glob("*.npz"))


def test_an_error_is_one_sentence_and_leaves_older_results(scan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison_metrics.csv").write_text("old")
    done = run_here(scan, tmp_path / "out", "--n-test-subsample", "99999")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: --n-test-subsample 99999: ")
    assert "Traceback" not in done.stderr
    assert [path.read_text() for path in (tmp_path / "out").glob("[!.]*")] == ["old"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--stitch-crop-size", "0"),
        ("--phase-align-method", "line"),
        ("--n-test-groups", "0"),
        ("--frc-sigma", "-1"),
    ],
)
def test_values_that_are_none_are_refused_before_the_work(scan, tmp_path, wrong):
    done = run_here(scan, tmp_path / "out", *wrong)
    assert done.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in done.stderr


def test_without_a_true_object_the_command_succeeds(tmp_path):
    scan = make_scan(tmp_path / "scan")
    scan.write(**scan.members("objectGuess"))
    write_patches(scan.folder / "pinn", scan.patches, scan.positions)
    done = run_here(scan, tmp_path / "out", pinn="pinn", baseline="pinn")
    assert done.exit_code == 0
    assert "has no objectGuess" in done.stdout
    assert {row["metric"] for row in rows(tmp_path / "out")} == {"computation_time_s"}
    assert (tmp_path / "out" / "comparison_plot.png").exists()


def test_ctrl_c_is_one_sentence(tmp_path):
    scan = make_scan(tmp_path / "scan")
    write_patches(scan.folder / "pinn", scan.patches, scan.positions)
    # A pipe that nobody writes to: the command waits where it reads the third object.
    os.mkfifo(tmp_path / "third.npz")
    waiting = subprocess.Popen(
        command(scan, tmp_path / "out", "--tike_recon_path", str(tmp_path / "third.npz"), baseline="pinn"),
        stderr=subprocess.PIPE,
        text=True,
    )
    while waiting.poll() is None and not (tmp_path / "out").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert told == "interrupted; nothing was written\n"


def test_a_second_comparison_does_not_write_into_the_folder_of_the_first(scan, tmp_path):
    out = tmp_path / "out"
    with claim_comparison(out, run_id="first"):
        done = run_here(scan, out)
    assert done.exit_code == 1
    assert "the comparison in this folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(out.glob("*.csv"))


def test_what_killed_commands_had_not_finished_writing_goes_away(scan, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    old, new = out / ".stage-a-1-old.tmp", out / ".stage-a-1-new.tmp"
    for leftover, age in ((old, 200_000), (new, 0)):
        leftover.write_text("half")
        os.utime(leftover, (time.time() - age,) * 2)
    assert run_here(scan, out).exit_code == 0
    assert (old.exists(), new.exists()) == (False, True)

"""The files of a comparison, to the last byte where it is known."""

import errno
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.reassembly import comparison_files
from stage_a_pipeline.reassembly.alignment import Aligned
from stage_a_pipeline.reassembly.arms import Arm
from stage_a_pipeline.reassembly.comparison import ComparedArm, Comparison
from stage_a_pipeline.reassembly.comparison_display import metrics_table
from stage_a_pipeline.reassembly.comparison_files import write_comparison
from stage_a_pipeline.reassembly.metrics import Curves, Measured, Metrics
from stage_a_pipeline.reassembly.registration import Offset
from tests.reassembly.images import smooth_object

TRUTH = smooth_object(40, 50)
ALL_FILES = {
    "comparison_metrics.csv",
    "pinn_frc_curves.csv",
    "baseline_frc_curves.csv",
    "reconstructions.npz",
    "reconstructions_aligned.npz",
    "comparison_plot.png",
}


def compared(name, *, first=0.0, seconds=None, offset=None, phase_bins=3):
    """An arm whose metrics count up from `first`, and whose MS-SSIM of phases is not defined."""
    values = [Measured(first + number, first + number + 0.5) for number in range(7)]
    values[4] = Measured(values[4].amplitude, math.nan)
    curves = Curves(np.array([1, 0.5, 0.25]), np.array([1, np.nan, 0.125])[:phase_bins])
    image = smooth_object(40, 50, seed=1)
    return ComparedArm(
        Arm(name, image, None, seconds),
        Aligned(image[2:-2, 2:-2], TRUTH[2:-2, 2:-2]),
        offset,
        Metrics(*values, curves),
    )


def whole():
    arms = (
        compared("PtychoPINN", offset=Offset(0.02, -1.5), seconds=1.25, phase_bins=2),
        compared("Baseline", first=10, offset=Offset(-0.0000001, 3)),
        compared("PtyChi", first=20, offset=Offset(0, 0), seconds=60),
    )
    return Comparison(arms, TRUTH, ())


def test_metrics_come_by_arm_then_offsets_then_seconds(tmp_path):
    write_comparison(tmp_path, whole())
    lines = (tmp_path / "comparison_metrics.csv").read_bytes().decode().split("\n")
    assert lines[:9] == [
        "model,metric,amplitude,phase,value",
        "PtychoPINN,mae,0.000000,0.500000,",
        "PtychoPINN,mse,1.000000,1.500000,",
        "PtychoPINN,psnr,2.000000,2.500000,",
        "PtychoPINN,ssim,3.000000,3.500000,",
        "PtychoPINN,ms_ssim,4.000000,,",
        "PtychoPINN,frc50,5.000000,5.500000,",
        "PtychoPINN,frc1over7,6.000000,6.500000,",
        "Baseline,mae,10.000000,10.500000,",
    ]
    assert lines[22:] == [
        "PtychoPINN,registration_offset_dy,,,0.020000",
        "PtychoPINN,registration_offset_dx,,,-1.500000",
        "Baseline,registration_offset_dy,,,-0.000000",
        "Baseline,registration_offset_dx,,,3.000000",
        "PtyChi,registration_offset_dy,,,0.000000",
        "PtyChi,registration_offset_dx,,,0.000000",
        "PtychoPINN,computation_time_s,,,1.250000",
        "PtyChi,computation_time_s,,,60.000000",
        "",
    ]


def test_a_shorter_curve_leaves_cells_empty(tmp_path):
    write_comparison(tmp_path, whole())
    assert (tmp_path / "pinn_frc_curves.csv").read_bytes() == (
        b"model,frequency_bin,amplitude_frc,phase_frc\n"
        b"PtychoPINN,0,1.000000,1.000000\nPtychoPINN,1,0.500000,\nPtychoPINN,2,0.250000,\n"
    )
    last = (tmp_path / "baseline_frc_curves.csv").read_text().splitlines()[-1]
    assert last == "Baseline,2,0.250000,0.125000"


def test_objects_are_kept_before_and_after_alignment(tmp_path):
    write_comparison(tmp_path, whole())
    names = ("ptychopinn", "baseline", "ptychi", "ground_truth")
    expected = {f"{name}_{part}" for name in names for part in ("amplitude", "phase", "complex")}
    with np.load(tmp_path / "reconstructions.npz") as objects:
        assert set(objects.files) == expected
        assert objects["ground_truth_complex"].tolist() == TRUTH.tolist()
        assert objects["baseline_phase"].tolist() == np.angle(smooth_object(40, 50, seed=1)).tolist()
    with np.load(tmp_path / "reconstructions_aligned.npz") as objects:
        offsets = {
            f"{name}_offset_{axis}" for name in ("pinn", "baseline", "ptychi") for axis in ("dy", "dx")
        }
        assert set(objects.files) == expected | offsets
        assert objects["ground_truth_amplitude"].shape == (36, 46)
        assert float(objects["pinn_offset_dx"]) == -1.5


def test_the_same_comparison_is_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        assert {path.name for path in write_comparison(tmp_path / folder, whole())} == ALL_FILES
    for name in ALL_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_picture_has_two_rows_and_a_column_more_than_arms(tmp_path):
    write_comparison(tmp_path, whole())
    with Image.open(tmp_path / "comparison_plot.png") as picture:
        assert picture.width == pytest.approx(4 * 4.4 * 130, abs=2)
        assert picture.height == 2 * 4 * 130


def test_without_a_truth_nothing_of_an_older_comparison_is_left(tmp_path):
    write_comparison(tmp_path, whole())
    (tmp_path / "notes.txt").touch()
    bare = Comparison(tuple(ComparedArm(arm.arm) for arm in whole().arms), None, ())
    write_comparison(tmp_path, bare)
    assert {path.name for path in tmp_path.iterdir()} == {
        "comparison_metrics.csv",
        "reconstructions.npz",
        "comparison_plot.png",
        "notes.txt",
    }
    assert len((tmp_path / "comparison_metrics.csv").read_text().splitlines()) == 3


def test_objects_are_only_written_when_asked_for(tmp_path):
    written = write_comparison(tmp_path, whole(), save_npz=False, save_npz_aligned=False)
    assert {path.suffix for path in written} == {".csv", ".png"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        write_comparison(tmp_path / "file" / "results", whole())


KILLED = """
import os, signal, sys
from pathlib import Path
from stage_a_pipeline.reassembly import comparison_files
from tests.reassembly.test_comparison_files import whole

def die(file, comparison):
    file.write(b"half of a picture")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

comparison_files.draw_comparison = die
comparison_files.write_comparison(Path(sys.argv[1]), whole())
"""


def older():
    return Comparison((compared("PtychoPINN", first=5), compared("Baseline", first=6)), TRUTH, ())


def test_a_disk_that_is_full_at_the_last_file_leaves_all_older_ones(tmp_path, monkeypatch):
    write_comparison(tmp_path, older())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fill(file, comparison):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(comparison_files, "draw_comparison", fill)
    with pytest.raises(OutputError, match=r"comparison_plot\.png cannot be written: No space left"):
        write_comparison(tmp_path, whole())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_is_killed_leaves_all_older_files(tmp_path):
    write_comparison(tmp_path, older())
    before = {name: (tmp_path / name).read_bytes() for name in ALL_FILES}
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert run.returncode == -9
    assert {name: (tmp_path / name).read_bytes() for name in ALL_FILES} == before


def test_the_best_of_each_row_is_marked():
    table = metrics_table(whole())
    cells = {column.header: list(column.cells) for column in table.columns}
    # Less is better of the first two metrics, MAE and MSE, and more of all others.
    assert [str(cell).endswith("*") for cell in cells["PtychoPINN"]] == [True] * 4 + [False] * 10
    last = [str(cell).endswith("*") for cell in cells["PtyChi"]]
    assert last == [False] * 4 + [True] * 5 + [False] + [True] * 4
    assert str(cells["Baseline"][9]).strip() == "-"

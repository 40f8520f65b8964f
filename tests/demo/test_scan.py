"""The demo scan: its files, that patches are what they say, and that it repeats itself byte for byte."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from stage_a_pipeline.demo.scan import TEST_DATA_NAME, write_demo_scan
from stage_a_pipeline.demo.scan_models import MODELS, Degradation, ImperfectModel, sample_patches
from stage_a_pipeline.demo.scan_object import draw_object
from stage_a_pipeline.errors import ConfigurationError, OutputError

SMALL = {"positions": 70, "patch_size": 24, "seed": 5}
FILES = {
    "baseline/offsets.npy",
    "baseline/patches.npy",
    "pinn/patches.npz",
    "test_data.npz",
    "true/patches.npz",
    "truth.json",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_scan(tmp_path_factory.mktemp("scan") / "set", **SMALL).folder


def load(path):
    """All arrays of an `.npz`, or the one of an `.npy`."""
    loaded = np.load(path, allow_pickle=False)
    return dict(loaded) if path.suffix == ".npz" else loaded


def model(folder, name):
    """A model's patches and their offsets."""
    if name == "baseline":
        return load(folder / name / "patches.npy"), load(folder / name / "offsets.npy")
    arrays = load(folder / name / "patches.npz")
    return arrays["patches"], arrays["offsets"]


def bytes_below(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_scan_consists_of_these_files_and_arrays(folder):
    assert set(bytes_below(folder)) == FILES
    measured = load(folder / TEST_DATA_NAME)
    height, width = measured["objectGuess"].shape
    described = {name: (array.dtype.name, array.shape) for name, array in measured.items()}
    assert described == {
        "diffraction": ("float32", (70, 24, 24)),
        "xcoords": ("float64", (70,)),
        "ycoords": ("float64", (70,)),
        "probeGuess": ("complex64", (24, 24)),
        "objectGuess": ("complex64", (height, width)),
    }
    offsets = np.stack([measured["xcoords"], measured["ycoords"]], axis=1)
    for name in ("pinn", "true"):
        assert list(load(folder / name / "patches.npz")) == ["offsets", "patches"]
    for name in ("pinn", "baseline", "true"):
        patches, placed = model(folder, name)
        assert (patches.dtype, patches.shape) == (np.complex64, (70, 24, 24))
        assert np.isfinite(patches).all()
        assert np.array_equal(placed, offsets)


def test_true_patches_are_the_specimen_between_its_pixels(folder):
    specimen = load(folder / TEST_DATA_NAME)["objectGuess"].astype(np.complex128)
    patches, offsets = model(folder, "true")
    for place in (0, 7, 33, 69):
        x, y = offsets[place]
        expected = np.array(
            [[bilinear(specimen, y - 12 + i, x - 12 + j) for j in range(24)] for i in range(24)]
        )
        assert np.abs(patches[place] - expected).max() < 1e-6


def bilinear(image, row, column):
    """One value between four pixels, by the book."""
    top, left = math.floor(row), math.floor(column)
    return sum(
        image[top + down, left + right] * abs(1 - down - (row - top)) * abs(1 - right - (column - left))
        for down in (0, 1)
        for right in (0, 1)
    )


def test_positions_lie_between_pixels_and_all_patches_within_the_specimen(folder):
    measured = load(folder / TEST_DATA_NAME)
    truth = json.loads((folder / "truth.json").read_text())
    reach = max(abs(errs[axis]) for errs in truth["models"].values() for axis in ("shift_x", "shift_y"))
    for name, side in (("xcoords", 1), ("ycoords", 0)):
        coordinates = measured[name]
        assert np.abs(coordinates - np.round(coordinates)).min() > 0
        assert coordinates.min() - 12 - reach >= 0
        assert coordinates.max() - 12 + 24 + reach <= measured["objectGuess"].shape[side] - 1


def test_crops_of_twenty_pixels_cover_the_scanned_box_twice_along_each_axis(tmp_path):
    measured = load(write_demo_scan(tmp_path / "set", positions=100, patch_size=24).folder / TEST_DATA_NAME)
    x = measured["xcoords"].reshape(10, 10)
    y = measured["ycoords"].reshape(10, 10)
    for steps in (np.diff(x, axis=1), np.diff(y, axis=0)):
        assert steps.mean() == pytest.approx(10, abs=0.5)
        assert steps.max() < 20
        assert steps.std() > 0.5


def test_diffraction_is_the_far_field_of_the_beam_on_the_true_patch(folder):
    measured = load(folder / TEST_DATA_NAME)
    patches, _ = model(folder, "true")
    for place in (0, 20, 69):
        wave = measured["probeGuess"].astype(np.complex128) * patches[place]
        expected = np.abs(np.fft.fftshift(np.fft.fft2(wave)))
        assert np.abs(measured["diffraction"][place] - expected).max() < 1e-4 * expected.max()


def test_the_specimen_varies_in_amplitude_and_phase_and_wraps_nowhere(folder):
    specimen = load(folder / TEST_DATA_NAME)["objectGuess"]
    amplitude, phase = np.abs(specimen), np.angle(specimen)
    assert 0.6 <= amplitude.min() < 0.7 < 0.9 < amplitude.max() <= 1.0
    assert np.ptp(phase) > 1.0
    assert np.abs(phase).max() < 1.5
    assert abs(np.corrcoef(amplitude.ravel(), phase.ravel())[0, 1]) < 0.9


def test_the_baseline_is_further_from_the_truth_than_the_other_model(folder):
    true, pinn, baseline = (model(folder, name)[0] for name in ("true", "pinn", "baseline"))
    assert 0.01 < np.abs(pinn - true).mean() < 0.5 * np.abs(baseline - true).mean()
    assert np.abs(baseline).mean() / np.abs(true).mean() == pytest.approx(0.9, abs=0.02)


def test_same_arguments_write_same_bytes_and_another_seed_others(folder, tmp_path):
    again = write_demo_scan(tmp_path / "again", **SMALL).folder
    assert bytes_below(again) == bytes_below(folder)
    other = write_demo_scan(tmp_path / "other", **{**SMALL, "seed": 6}).folder
    assert not set(bytes_below(other).values()) & set(bytes_below(folder).values())


def test_what_a_model_predicts_does_not_depend_on_how_many_are_asked_for_at_once():
    specimen = draw_object(80, 90, seed=2)
    positions = np.random.default_rng(0).uniform(30, 50, (10, 2))
    one, other = (ImperfectModel(specimen, MODELS["baseline"], seed=[4]) for _ in range(2))
    pieces = [other.predict(some, size=16) for some in (positions[:3], positions[3:4], positions[4:])]
    assert np.array_equal(one.predict(positions, size=16), np.concatenate(pieces))


def test_a_model_without_noise_and_blur_sees_the_specimen_shifted_scaled_and_turned():
    specimen = draw_object(80, 90, seed=2)
    errs = Degradation(shift_y=0.5, shift_x=-2.25, blur=1e-3, noise=0.0, scale=0.5, phase=0.3)
    positions = np.array([[40.1, 38.7], [45.0, 41.0]])
    found = ImperfectModel(specimen, errs, seed=[4]).predict(positions, size=16)
    expected = sample_patches(specimen, positions + np.array([-2.25, 0.5]), size=16)
    assert np.abs(found - 0.5 * np.exp(0.3j) * expected).max() < 1e-6


def test_the_mean_position_is_a_whole_pixel(folder):
    measured = load(folder / TEST_DATA_NAME)
    for name in ("xcoords", "ycoords"):
        assert measured[name].mean() == pytest.approx(round(measured[name].mean()), abs=1e-9)


def test_a_folder_with_content_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds files already, such as notes\.txt; choose"):
        write_demo_scan(tmp_path, **SMALL)
    assert bytes_below(tmp_path).keys() == {"notes.txt"}


def test_a_scan_is_not_written_over_another(folder):
    before = bytes_below(folder)
    with pytest.raises(ConfigurationError, match="holds files already"):
        write_demo_scan(folder, **SMALL)
    assert bytes_below(folder) == before


def test_a_file_in_place_of_the_folder_is_an_error_of_the_output(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        write_demo_scan(tmp_path / "file" / "set", **SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": 0}, "positions must be at least 1, not 0"),
        ({"patch_size": 3}, "patch size must be at least 4, not 3"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"step": 0.0}, "step must be a number of pixels above 0, not 0.0"),
        ({"step": math.nan}, "step must be a number of pixels above 0, not nan"),
    ],
)
def test_arguments_out_of_range_are_named_and_nothing_is_written(changes, message, tmp_path):
    with pytest.raises(ConfigurationError, match=f"demo scan: {message}"):
        write_demo_scan(tmp_path / "set", **{**SMALL, **changes})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("positions", [1, 2, 3, 5])
def test_few_positions_make_a_scan_too(positions, tmp_path):
    scan = write_demo_scan(tmp_path / "set", positions=positions, patch_size=5)
    assert model(scan.folder, "true")[0].shape == (positions, 5, 5)


def test_the_command_tells_what_it_wrote_and_what_to_type_next(tmp_path):
    folder = tmp_path / "my set"
    done = CliRunner().invoke(main, ["demo", "scan", "--dir", str(folder), "--positions", "9"])
    assert done.exit_code == 0
    assert f"9 positions of 64 x 64 px on a specimen of 133 x 133 px in {folder}" in done.output
    assert f"stage-a compare-models --pinn_dir '{folder}/pinn'" in done.output


def test_a_killed_run_leaves_nothing_that_looks_whole_and_the_next_one_succeeds(tmp_path):
    folder = tmp_path / "set"
    program = "from stage_a_pipeline.cli import main; main()"
    arguments = ["demo", "scan", "--dir", str(folder), "--positions", "40000"]
    run = subprocess.Popen([sys.executable, "-c", program, *arguments], env=dict(os.environ))
    deadline = time.monotonic() + 60
    while written(folder) < 20_000_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    assert [path.name for path in folder.iterdir()] == [".stage-a-demo-scan"]
    write_demo_scan(folder, **SMALL)
    assert set(bytes_below(folder)) == FILES


def written(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

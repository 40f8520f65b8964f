"""Whole comparisons of small scans: every kind of arm, and what stops or changes one."""

from dataclasses import replace

import numpy as np
import pytest

from stage_a_pipeline.errors import ConfigurationError, ReassemblyError
from stage_a_pipeline.reassembly import comparison, reassemble_position
from stage_a_pipeline.reassembly.arms import Predicting, Stitching
from stage_a_pipeline.reassembly.comparison import ComparisonAudience, ComparisonRequest, compare
from stage_a_pipeline.reassembly.metrics import METRIC_NAMES, MetricOptions
from stage_a_pipeline.reassembly.reconstruction_file import write_reconstruction
from stage_a_pipeline.reassembly.selection import Selection
from tests.reassembly.models import save_torchscript
from tests.reassembly.scans import make_scan, write_patches

CROP = 12


@pytest.fixture
def scan(tmp_path):
    return make_scan(tmp_path / "scan")


@pytest.fixture
def request_for(scan):
    """A comparison of nearly true patches with noisy ones."""
    write_patches(scan.folder / "pinn", scan.noisy(0.01), scan.positions)
    write_patches(scan.folder / "baseline", scan.noisy(0.2, seed=1))
    stitching = Stitching(scan.test_data, crop_size=CROP, device="cpu")
    return ComparisonRequest(scan.folder / "pinn", scan.folder / "baseline", stitching)


def numbers(arm):
    return np.array([getattr(arm.metrics, name) for name in METRIC_NAMES])


def select(request, **chosen):
    return replace(request, stitching=replace(request.stitching, selection=Selection(**chosen)))


def other_object(scan, **members):
    """A file of a third program."""
    path = scan.folder / "third.npz"
    np.savez(path, **{"reconstructed_object": scan.truth[7:-7, 7:-7], **members})
    return path


def test_the_better_model_is_found_better(request_for):
    pinn, baseline = compare(request_for).arms
    assert (pinn.name, baseline.name) == ("PtychoPINN", "Baseline")
    for metric in ("mae", "mse"):
        assert np.less(getattr(pinn.metrics, metric), getattr(baseline.metrics, metric)).all()
    for metric in ("psnr", "ssim", "ms_ssim"):
        assert np.greater(getattr(pinn.metrics, metric), getattr(baseline.metrics, metric)).all()


def test_registration_undoes_what_rounding_the_canvas_to_pixels_left(scan, request_for):
    pinn = compare(request_for).arms[0]
    left = [corner - np.floor(corner + 0.5) for corner in (pinn.arm.anchor.top, pinn.arm.anchor.left)]
    assert pinn.offset == pytest.approx(left, abs=0.03)


@pytest.mark.parametrize("move", [(1, 0), (0, -2), (2, -1)])
def test_positions_that_are_off_are_told_by_the_offsets(scan, request_for, move):
    before = compare(request_for).arms[0].offset
    write_patches(scan.folder / "pinn", scan.noisy(0.01), scan.positions + np.array(move))
    after = compare(request_for).arms[0].offset
    # The truth is cropped too far to the right, and the object is moved to the left.
    assert np.subtract(after, before) == pytest.approx([-move[1], -move[0]], abs=0.1)


def test_a_stitched_object_is_compared_as_its_patches_are(scan, request_for):
    patches = scan.noisy(0.01)
    (scan.folder / "stitched").mkdir()
    write_reconstruction(
        scan.folder / "stitched" / "reconstruction.npz",
        reassemble_position(patches, scan.positions, crop_size=CROP),
    )
    stitched = compare(replace(request_for, pinn_dir=scan.folder / "stitched")).arms[0]
    assert numbers(stitched).tolist() == numbers(compare(request_for).arms[0]).tolist()
    assert stitched.arm.seconds is None


@pytest.mark.parametrize(
    ("chunk", "batch", "stitch"), [(1, 1, 1), (7, 3, 256), (1000, 13, 5), (50, 1000, 64)]
)
def test_sizes_of_batches_change_nothing(scan, request_for, chunk, batch, stitch):
    save_torchscript(scan.folder / "model" / "model.pt")
    request = replace(request_for, pinn_dir=scan.folder / "model", baseline_dir=scan.folder / "model")
    sizes = Predicting(chunk, batch)
    changed = replace(
        request, pinn=sizes, baseline=sizes, stitching=replace(request.stitching, batch_size=stitch)
    )
    for expected, found in zip(compare(request).arms, compare(changed).arms, strict=True):
        assert found.arm.object.tolist() == expected.arm.object.tolist()
        assert numbers(found).tolist() == numbers(expected).tolist()
        assert found.arm.seconds > 0


def test_a_selection_takes_the_same_rows_of_patches_and_patterns(scan, request_for):
    amplitudes = np.abs(scan.patches)
    write_patches(scan.folder / "as_model", amplitudes * np.exp(0.1j * amplitudes), scan.positions)
    save_torchscript(scan.folder / "model" / "model.pt")
    request = replace(request_for, pinn_dir=scan.folder / "model", baseline_dir=scan.folder / "as_model")
    predicted, stitched = compare(select(request, subsample=60, groups=50, seed=4)).arms
    assert predicted.arm.anchor == stitched.arm.anchor
    assert predicted.arm.object == pytest.approx(stitched.arm.object, abs=1e-5)
    rows = Selection(60, 50, 4).rows(len(scan.positions), source="")
    assert predicted.arm.anchor.mean_x == scan.positions[rows, 0].mean()
    assert predicted.arm.anchor != compare(request).arms[0].arm.anchor


@pytest.mark.parametrize(
    ("members", "name", "seconds"),
    [
        ({}, "Tike", None),
        ({"algorithm": "TIKE"}, "Tike", None),
        ({"algorithm": np.array(["rpie_pty"]), "reconstruction_time": 3}, "PtyChi", 3.0),
        ({"algorithm": "tike", "computation_time_seconds": 2.5, "reconstruction_time": 9}, "Tike", 2.5),
    ],
)
def test_a_third_object_is_named_by_its_algorithm(scan, request_for, members, name, seconds):
    third = compare(replace(request_for, third=other_object(scan, **members))).arms[2]
    assert (third.name, third.arm.seconds) == (name, seconds)
    assert third.arm.anchor is None


def test_an_algorithm_without_a_name_is_told(scan, request_for):
    third = other_object(scan, algorithm=np.array([], "U1"))
    with pytest.raises(ReassemblyError, match=f"{third.name}: algorithm is no single name"):
        compare(replace(request_for, third=third))


def test_an_object_without_a_place_is_compared_with_the_middle_of_the_scan(scan, request_for):
    request = replace(request_for, third=other_object(scan), skip_registration=True)
    placed = compare(request).arms[0].arm
    third = compare(request).arms[2].aligned
    top, left = (int(np.floor(corner + 0.5)) for corner in (placed.anchor.top, placed.anchor.left))
    side = placed.object.shape[0]
    box = scan.truth[max(top, 0) : top + side, max(left, 0) : left + side]
    rows, columns = min(box.shape[0], 58), min(box.shape[1], 66)
    down, right = (box.shape[0] - rows) // 2, (box.shape[1] - columns) // 2
    assert third.truth.tolist() == box[down : down + rows, right : right + columns].tolist()


def test_without_positions_both_are_cropped_to_their_centres(scan, request_for):
    scan.write(**scan.members("xcoords", "ycoords"))
    np.save(scan.folder / "baseline" / "offsets.npy", scan.positions)
    request = replace(request_for, third=other_object(scan), skip_registration=True)
    third = compare(request).arms[2]
    assert third.aligned.truth.tolist() == scan.truth[7:-7, 7:-7].tolist()
    assert third.metrics.mae == (0, 0)


def test_registration_can_be_left_out_in_silence(request_for):
    found = compare(replace(request_for, skip_registration=True))
    assert [arm.offset for arm in found.arms] == [None, None]
    assert found.notices == ()


def test_one_arm_that_cannot_be_registered_leaves_all_unregistered(scan, request_for):
    flat = other_object(scan, reconstructed_object=np.ones((40, 40), np.complex64))
    found = compare(replace(request_for, third=flat))
    assert [arm.offset for arm in found.arms] == [None, None, None]
    assert found.notices == (
        "Tike: registration failed (the reconstruction's amplitude is the same everywhere), so that no "
        "arm is registered",
    )
    skipped = compare(replace(request_for, skip_registration=True))
    assert numbers(found.arms[0]).tolist() == numbers(skipped.arms[0]).tolist()


def test_without_a_true_object_there_are_objects_and_no_metrics(scan, request_for):
    whole = compare(request_for)
    scan.write(**scan.members("objectGuess"))
    told = []
    found = compare(request_for, ComparisonAudience(notice=told.append))
    assert told == list(found.notices)
    assert "has no objectGuess" in told[0]
    assert [arm.metrics for arm in found.arms] == [None, None]
    assert found.arms[1].arm.object.tolist() == whole.arms[1].arm.object.tolist()


def test_what_is_not_looked_at_is_told(scan, request_for):
    save_torchscript(scan.folder / "pinn" / "model.pt")
    found = compare(select(replace(request_for, third=other_object(scan)), groups=100))
    assert found.notices == (
        f"PtychoPINN: {scan.folder / 'pinn' / 'patches.npz'} is compared; model.pt beside it is not looked "
        "at",
        "Tike: already stitched, so --n-test-subsample and --n-test-groups leave out nothing of it",
    )


def test_progress_is_told_from_none_to_all(scan, request_for):
    told = {}
    audience = ComparisonAudience(
        progress=lambda name: lambda done, total: told.setdefault(name, []).append((done, total))
    )
    compare(replace(request_for, stitching=replace(request_for.stitching, batch_size=50)), audience)
    count = len(scan.positions)
    steps = [(done, count) for done in [*range(0, count, 50), count]]
    assert told == {"PtychoPINN": steps, "Baseline": steps}


def test_options_of_metrics_reach_them(request_for):
    plain = compare(request_for).arms[1].metrics
    changed = compare(replace(request_for, metrics=MetricOptions("mean", 2.0, 3.0))).arms[1].metrics
    assert changed.mae.phase != plain.mae.phase
    assert changed.ms_ssim.amplitude != plain.ms_ssim.amplitude
    assert changed.frc.amplitude.tolist() != plain.frc.amplitude.tolist()


def fewer_patches(scan, request):
    write_patches(scan.folder / "baseline", scan.patches[:-1])


def fewer_offsets(scan, request):
    write_patches(scan.folder / "pinn", scan.patches, scan.positions[1:])


def no_positions(scan, request):
    scan.write(**scan.members("xcoords", "ycoords"))


def far_away(scan, request):
    write_patches(scan.folder / "pinn", scan.patches, scan.positions + 1000)


def broken_patch(scan, request):
    patches = scan.patches.copy()
    patches[5, 3, 3] = np.nan
    write_patches(scan.folder / "baseline", patches)


def large_crop(scan, request):
    return replace(request, stitching=replace(request.stitching, crop_size=17))


def too_many(scan, request):
    return select(request, groups=len(scan.positions) + 1)


def half_the_scan(scan, request):
    write_patches(scan.folder / "pinn", scan.patches[::2], scan.positions[::2])
    return select(request, groups=3)


def third_without_object(scan, request):
    np.savez(scan.folder / "third.npz", other=1)
    return replace(request, third=scan.folder / "third.npz")


def third_of_numbers(scan, request):
    return replace(request, third=other_object(scan, reconstructed_object=np.full((9, 9), np.nan + 0j)))


def third_with_words_for_seconds(scan, request):
    return replace(request, third=other_object(scan, reconstruction_time="long"))


def no_model(scan, request):
    return replace(request, pinn_dir=scan.folder)


def no_test_data(scan, request):
    scan.test_data.unlink()


def no_patterns(scan, request):
    scan.write(**scan.members("diffraction"))
    save_torchscript(scan.folder / "model" / "model.pt")
    return replace(request, pinn_dir=scan.folder / "model")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (fewer_patches, r"baseline/patches\.npy: \d+ patches, where .*test_data\.npz has \d+ positions"),
        (fewer_offsets, r"pinn/patches\.npz: \d+ patches, where .*pinn/patches\.npz has \d+ positions"),
        (half_the_scan, r"pinn/patches\.npz: \d+ patches, where .*test_data\.npz has \d+ positions"),
        (no_positions, r"test_data\.npz: has neither .* and .*baseline/patches\.npy comes without positions"),
        (far_away, r"PtychoPINN lies at row \d+, column \d+ of an object of 72x80 pixels"),
        (broken_patch, r"baseline/patches\.npy: patches: number 5 \(from 0\) has values that are not finite"),
        (large_crop, r"pinn/patches\.npz: crop_size: 17 .*16"),
        (too_many, r"--n-test-groups \d+: .*pinn/patches\.npz has \d+ positions to choose from"),
        (third_without_object, r"third\.npz: has no `reconstructed_object`"),
        (third_of_numbers, r"third\.npz: reconstructed_object has values that are not finite"),
        (third_with_words_for_seconds, r"third\.npz: reconstruction_time is no number of seconds"),
        (no_model, r"scan holds no model; looked for"),
        (no_test_data, r"test_data\.npz:? cannot be read"),
        (no_patterns, r"test_data\.npz: has no `diffraction`, nor `diff3d`, which a model needs"),
    ],
)
def test_what_cannot_be_compared_is_told(scan, request_for, change, told):
    request = change(scan, request_for) or request_for
    with pytest.raises(ReassemblyError, match=told):
        compare(request)


def test_libraries_that_are_not_installed_are_told_with_the_extra(request_for, monkeypatch):
    monkeypatch.setattr(comparison, "find_spec", lambda name: None if name == "skimage" else True)
    with pytest.raises(ConfigurationError, match=r"needs scikit-image, .* pip install '\.\[reassembly\]'"):
        compare(request_for)

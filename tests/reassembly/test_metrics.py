"""Metrics of amplitude and phase, by hand and against what they must not depend on."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.metrics import METRIC_NAMES, compare_objects, remove_plane
from tests.reassembly.images import smooth_object


def numbers(metrics):
    return np.array([getattr(metrics, name) for name in METRIC_NAMES])


def framed(image, border=2):
    """The image in a frame that the metrics trim away."""
    return np.pad(image, border, constant_values=77)


def ramp(shape, *, down, right, level):
    rows, columns = np.indices(shape)
    return down * rows + right * columns + level


def test_an_object_is_equal_to_itself():
    metrics = compare_objects(smooth_object(), smooth_object())
    assert metrics.mae == metrics.mse == (0, 0)
    assert metrics.psnr == pytest.approx((20 * math.log10(255 / 2.220446049250313e-16),) * 2)
    assert metrics.ssim == pytest.approx((1, 1))
    assert metrics.ms_ssim == pytest.approx((1, 1))
    # 92 pixels are left, whose corners are the ring of round(46 * sqrt 2) = 65.
    assert metrics.frc50 == metrics.frc1over7 == (66, 66)
    assert metrics.frc.amplitude == pytest.approx(np.ones(66))


def test_the_frame_is_not_seen():
    inner, other = smooth_object(seed=1), smooth_object(seed=2)
    one = compare_objects(framed(inner), framed(other))
    two = compare_objects(framed(inner), np.pad(other, 2, mode="edge"))
    assert numbers(one).tolist() == numbers(two).tolist()


def test_errors_of_amplitude_by_hand():
    # After scaling by 2.5/5 the prediction is 1, 2, 2.5, 4.5 where the truth is 1, 2, 3, 4.
    truth = framed(np.array([[1, 2], [3, 4]]))
    metrics = compare_objects(framed(np.array([[2, 4], [5, 9]])), truth)
    assert metrics.mae.amplitude == pytest.approx(0.25)
    assert metrics.mse.amplitude == pytest.approx(0.125)
    assert metrics.psnr.amplitude == pytest.approx(20 * math.log10(255 / math.sqrt(0.125)))


@pytest.mark.parametrize(("method", "expected"), [("mean", 0.5), ("plane", 0.0)])
def test_errors_of_phase_by_hand(method, expected):
    # Less their means, the prediction's rows are -0.5 and 0.5, the truth's 0; a plane takes those off too.
    phase = np.array([[0.25, 0.25], [1.25, 1.25]])
    metrics = compare_objects(framed(np.exp(1j * phase)), framed(np.ones((2, 2))), phase_align_method=method)
    assert metrics.mae.phase == pytest.approx(expected)
    assert metrics.mse.phase == pytest.approx(expected**2)


def test_neither_a_factor_nor_a_ramp_of_the_phase_counts():
    truth, found = smooth_object(seed=1), smooth_object(seed=2)
    # Small enough that no phase wraps.
    turned = 7 * found * np.exp(1j * ramp(found.shape, down=0.004, right=-0.003, level=0.2))
    one, two = compare_objects(found, truth), compare_objects(turned, truth)
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-6, abs=1e-6)


def test_the_mean_leaves_a_ramp():
    truth = smooth_object()
    turned = truth * np.exp(1j * ramp(truth.shape, down=0.004, right=0, level=0.2))
    assert compare_objects(turned, truth).mae.phase < 1e-6
    assert compare_objects(turned, truth, phase_align_method="mean").mae.phase > 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 1), (5, 8), (40, 31)])
def test_a_plane_is_removed_as_least_squares_would(shape):
    rng = np.random.default_rng(0)
    image = rng.standard_normal(shape) + ramp(shape, down=0.3, right=-2, level=5)
    rows, columns = np.indices(shape)
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(image.size)], axis=1)
    solution = np.linalg.lstsq(design, image.ravel(), rcond=None)[0]
    expected = image - (design @ solution).reshape(shape)
    assert remove_plane(image) == pytest.approx(expected, abs=1e-10)


def test_ssim_is_scikit_images_with_the_truths_range():
    truth, found = smooth_object(seed=1), smooth_object(seed=2)
    metrics = compare_objects(found, truth, phase_align_method="mean")
    inner = slice(2, -2)
    true, other = (np.abs(image[inner, inner].astype(complex)) for image in (truth, found))
    other *= true.mean() / other.mean()
    expected = structural_similarity(other, true, data_range=true.max() - true.min())
    assert metrics.ssim.amplitude == pytest.approx(expected, rel=1e-12)
    true, other = (np.angle(image[inner, inner].astype(complex)) for image in (truth, found))
    mapped = [(phase - phase.mean() + np.pi) / (2 * np.pi) for phase in (other, true)]
    assert metrics.ssim.phase == pytest.approx(structural_similarity(*mapped, data_range=1), rel=1e-12)


@pytest.mark.parametrize("sigma", [0, 1, 2.5])
def test_ms_ssim_is_a_product_over_scales(sigma):
    truth = smooth_object(34, 100, seed=1)
    found = truth + 0.3 * smooth_object(34, 100, seed=2)
    true, other = (np.abs(image[2:-2, 2:-2].astype(complex)) for image in (truth, found))
    other = other * (true.mean() / other.mean())
    if sigma:
        true, other = gaussian_filter(true, sigma), gaussian_filter(other, sigma)
    data_range = max(np.ptp(true), np.ptp(other))
    # Sides of 30, 15 and 8 pixels; 4 are too few for a window.
    expected = np.prod(
        [
            structural_similarity(other[::step, ::step], true[::step, ::step], data_range=data_range)
            ** weight
            for step, weight in ((1, 0.0448), (2, 0.2856), (4, 0.3001))
        ]
    )
    assert compare_objects(found, truth, ms_ssim_sigma=sigma).ms_ssim.amplitude == pytest.approx(expected)


def test_phases_are_never_smoothed():
    truth, found = smooth_object(seed=1), smooth_object(seed=2)
    smoothed, plain = (compare_objects(found, truth, ms_ssim_sigma=sigma).ms_ssim for sigma in (3, 0))
    assert smoothed.phase == plain.phase
    assert smoothed.amplitude != plain.amplitude


def test_an_opposite_image_has_a_small_ms_ssim_and_not_an_undefined_one():
    amplitude = np.abs(smooth_object(20, 20))
    found = compare_objects(2 * amplitude.mean() - amplitude, amplitude, ms_ssim_sigma=0)
    assert found.ssim.amplitude < 0
    # Sides of 16 and 8 pixels, both with a negative SSIM.
    assert found.ms_ssim.amplitude == pytest.approx(1e-4 ** (0.0448 + 0.2856))


def test_a_smoothed_curve_crosses_elsewhere():
    truth, found = smooth_object(seed=1), smooth_object(seed=1) + 0.2 * smooth_object(seed=2, sigma=0.5)
    rough, smooth = (compare_objects(found, truth, frc_sigma=sigma) for sigma in (0, 3))
    assert rough.mae == smooth.mae
    assert not np.allclose(rough.frc.phase, smooth.frc.phase)


def test_images_smaller_than_a_window_have_no_ssim():
    metrics = compare_objects(smooth_object(10, 30), smooth_object(10, 30, seed=1))
    assert np.isnan(metrics.ssim).all()
    assert np.isnan(metrics.ms_ssim).all()
    assert np.isfinite([metrics.mae, metrics.psnr, metrics.frc50]).all()


def test_nothing_at_all_has_neither_amplitude_nor_rings():
    nothing = np.zeros((30, 30), np.complex64)
    metrics = compare_objects(nothing, nothing)
    assert np.isnan(numbers(metrics)[:, 0]).all()
    assert np.isnan([metrics.frc50.phase, metrics.frc1over7.phase]).all()
    assert metrics.mae.phase == 0


def test_a_prediction_of_nothing_is_undefined_without_a_warning(recwarn):
    metrics = compare_objects(np.zeros((30, 30)), smooth_object(30, 30))
    assert np.isnan(metrics.mae.amplitude)
    assert np.isfinite(metrics.mae.phase)
    assert not [warning.message for warning in recwarn]


@pytest.mark.parametrize(
    ("prediction", "truth", "options", "told"),
    [
        (np.ones((9, 9)), np.ones((9, 8)), {}, r"prediction has the shape \(9, 9\) and truth \(9, 8\)"),
        (np.ones((9, 9, 1)), np.ones((9, 9)), {}, r"prediction has the shape \(9, 9, 1\); give an image"),
        (np.ones((9, 9)), np.full((9, 9), np.nan), {}, "truth has values that are not finite"),
        (np.ones((4, 9)), np.ones((4, 9)), {}, "images of 4x9 pixels are too small.*at least 5x5"),
        (
            np.ones((9, 9)),
            np.ones((9, 9)),
            {"phase_align_method": "line"},
            "'line'; choose one of plane",
        ),
        (np.ones((9, 9)), np.ones((9, 9)), {"frc_sigma": -1}, "frc_sigma is -1; give 0 or a positive"),
        (np.ones((9, 9)), np.ones((9, 9)), {"ms_ssim_sigma": math.nan}, "ms_ssim_sigma is nan"),
    ],
)
def test_what_cannot_be_compared_is_told(prediction, truth, options, told):
    with pytest.raises(ReassemblyError, match=told):
        compare_objects(prediction, truth, **options)

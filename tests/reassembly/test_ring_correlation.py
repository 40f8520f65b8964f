"""Ring correlations, against a double loop and by hand."""

import math

import numpy as np
import pytest

from stage_a_pipeline.reassembly.ring_correlation import crossing, ring_correlation


def slow_correlation(first, second):
    """Ring by ring, pixel by pixel, from the definition."""
    side = first.shape[0]
    one, other = (np.fft.fftshift(np.fft.fft2(image)) for image in (first, second))
    sums = {}
    for r in range(side):
        for c in range(side):
            ring = round(math.hypot(r - side // 2, c - side // 2))
            product, first_power, second_power = sums.get(ring, (0, 0, 0))
            sums[ring] = (
                product + one[r, c] * np.conj(other[r, c]),
                first_power + abs(one[r, c]) ** 2,
                second_power + abs(other[r, c]) ** 2,
            )
    return [abs(sums[ring][0]) / math.sqrt(sums[ring][1] * sums[ring][2]) for ring in range(len(sums))]


@pytest.mark.parametrize("side", [1, 2, 7, 16, 33])
def test_the_curve_is_that_of_a_double_loop(side):
    rng = np.random.default_rng(side)
    first, second = rng.standard_normal((2, side, side))
    curve = ring_correlation(first, first + second)
    assert curve == pytest.approx(slow_correlation(first, first + second), abs=1e-12)


def test_an_image_agrees_with_itself_at_every_frequency():
    image = np.random.default_rng(0).standard_normal((20, 20))
    assert ring_correlation(image, 3 * image) == pytest.approx(np.ones(15))


def test_other_images_than_squares_are_compared_in_their_centre():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 21, 40))
    inner = slice(9, 30)
    assert ring_correlation(first, second) == pytest.approx(
        slow_correlation(first[:, inner], second[:, inner])
    )


def test_a_ring_without_power_is_undefined():
    curve = ring_correlation(np.ones((8, 8)), np.ones((8, 8)))
    assert curve[0] == 1
    assert np.isnan(curve[1:]).all()


def test_smoothing_brings_neighbours_together():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 64, 64))
    rough, smooth = (ring_correlation(first, second, sigma=sigma) for sigma in (0.0, 2.0))
    assert rough.shape == smooth.shape
    assert np.abs(np.diff(smooth)).max() < np.abs(np.diff(rough)).max() / 2


@pytest.mark.parametrize(
    ("curve", "threshold", "expected"),
    [
        ([0.95, 0.72, 0.55, 0.45, 0.20], 1 / 2, 2.5),
        ([0.80, 0.40, 0.20, 0.10], 1 / 2, 0.75),
        ([0.80, 0.40, 0.20, 0.10], 1 / 7, 2.5714285714285716),
        ([0.49, 0.9, 0.9], 1 / 2, 0.0),
        ([0.9, 0.8, 0.7], 1 / 2, 3.0),
        ([0.9, 0.5, 0.7], 1 / 2, 3.0),
        ([1.0, 0.0, 1.0, 0.0], 1 / 2, 0.5),
    ],
)
def test_a_crossing_lies_between_two_bins(curve, threshold, expected):
    assert crossing(np.array(curve), threshold) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("curve", [[math.nan, math.nan], [1.0, math.nan, 0.2]])
def test_a_crossing_beside_an_undefined_bin_is_undefined(curve):
    assert math.isnan(crossing(np.array(curve), 0.5))

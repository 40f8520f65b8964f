"""Shifts that are known are found again, to the step of the search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import fourier_shift

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.registration import register
from tests.reassembly.images import smooth_object

STEPS = st.integers(-250, 250)


def shifted(image, dy, dx):
    return np.fft.ifft2(fourier_shift(np.fft.fft2(image), (dy, dx))).astype(np.complex64)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(STEPS, STEPS)
def test_a_known_shift_is_undone(down, right):
    truth = smooth_object(64, 72, sigma=2)
    # Without phases: the amplitude of a shifted object with phases is not its shifted amplitude.
    truth = np.abs(truth).astype(np.complex64)
    dy, dx = down / 50, right / 50
    registered = register(shifted(truth, -dy, -dx), truth)
    assert registered.offset == pytest.approx((dy, dx), abs=1 / 50 + 1e-6)
    assert registered.reconstruction == pytest.approx(registered.truth, abs=0.01)


def test_an_object_on_its_place_is_not_moved():
    truth = smooth_object(40, 50)
    registered = register(truth, truth)
    assert registered.offset == (0, 0)
    assert registered.truth.tolist() == truth[2:-2, 2:-2].tolist()
    assert registered.reconstruction == pytest.approx(registered.truth, abs=1e-6)
    assert registered.reconstruction.dtype == np.complex64


def test_the_phase_moves_with_the_amplitude():
    truth = smooth_object(64, 64, sigma=2)
    registered = register(np.roll(truth, (3, -5), (0, 1)), truth)
    assert registered.offset == (-3, 5)
    assert registered.reconstruction == pytest.approx(registered.truth, abs=1e-5)


@pytest.mark.parametrize(
    ("reconstruction", "truth", "told"),
    [
        (smooth_object(8, 40), smooth_object(8, 40), "8x40 pixels are too few; registration needs 9"),
        (np.zeros((20, 20)), smooth_object(20, 20), "the reconstruction's amplitude is the same everywhere"),
        (smooth_object(20, 20), np.ones((20, 20)), "the truth's amplitude is the same everywhere"),
        (np.full((20, 20), np.inf), smooth_object(20, 20), "no finite shift|amplitude is the same|NaN"),
    ],
)
def test_what_cannot_be_registered_is_told(reconstruction, truth, told):
    with np.errstate(invalid="ignore"), pytest.raises(ReassemblyError, match=told):
        register(reconstruction, truth)

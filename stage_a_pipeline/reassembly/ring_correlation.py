"""Fourier ring correlation: how well two images agree at each spatial frequency.

van Heel and Schatz, Fourier shell correlation threshold criteria, J. Struct. Biol. 151 (2005) 250-262.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.reassembly.cropping import centre_crop


def ring_correlation(
    first: NDArray[np.float64], second: NDArray[np.float64], *, sigma: float = 0.0
) -> NDArray[np.float64]:
    """The correlation of two real images of one shape in every ring of frequencies, from the mean outwards.

    Of other images than squares, the central square. Rings are one frequency bin wide, the corners belong to
    the last ones; a ring in which an image has no power is NaN. `sigma` > 0 smooths the curve, in bins.
    """
    side = min(first.shape)
    one, other = (np.fft.fftshift(np.fft.fft2(centre_crop(image, (side, side)))) for image in (first, second))
    distance = np.arange(side) - side // 2
    rings = np.rint(np.hypot(distance[:, None], distance[None, :])).astype(np.intp).ravel()
    product = (one * np.conj(other)).ravel()
    shared = np.hypot(np.bincount(rings, product.real), np.bincount(rings, product.imag))
    powers = [np.bincount(rings, np.square(np.abs(image)).ravel()) for image in (one, other)]
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = shared / (np.sqrt(powers[0]) * np.sqrt(powers[1]))
    curve = np.where((powers[0] > 0) & (powers[1] > 0), curve, np.nan)
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d

        curve = gaussian_filter1d(curve, sigma)
    return np.asarray(curve, np.float64)


def crossing(curve: NDArray[np.float64], threshold: float) -> float:
    """Where a curve first falls below the threshold, in bins, linear between two of them.

    0 where it begins below, its length where it never falls; NaN where the curve tells nothing there.
    """
    if np.isnan(curve).all():
        return float("nan")
    below = np.flatnonzero(curve < threshold)
    if not below.size:
        return float(curve.size)
    first = int(below[0])
    if first == 0:
        return 0.0
    before, after = float(curve[first - 1]), float(curve[first])
    return first - 1 + (threshold - before) / (after - before)

"""Objects to compare: smooth, with structure at every scale, and known to the last pixel."""

import numpy as np
from scipy.ndimage import gaussian_filter


def smooth_object(rows=96, columns=96, *, seed=0, sigma=1.5):
    """A complex object with an amplitude of about 1 and a phase of a few tenths of a radian."""
    rng = np.random.default_rng(seed)
    amplitude, phase = (gaussian_filter(rng.standard_normal((rows, columns)), sigma) for _ in range(2))
    return ((1 + amplitude) * np.exp(1j * 2 * phase)).astype(np.complex64)

"""The difference of two versions' calibration errors on the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.calibration import MOST_BINS, Bins, cross_covariances, find_moments
from lepton_plugins.evaluation.intervals import normal_quantile
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition

FloatArray = NDArray[np.float64]

METHOD = "paired difference of squared errors (debiased quadratic forms), brought to the root at the errors' limits"


def calibration_difference(
    partition: Partition, bins_a: Bins, bins_b: Bins, one: Measurement, other: Measurement, level: float
) -> Measurement:
    """Version b's calibration error minus version a's, in every slice.

    θ_b² - θ_a² is estimated without bias, with standard deviation √(2‖V‖ + 4ℓ): the squared covariances
    of the gaps of a, of b, less twice the shared ones, and the part along the gaps themselves, debiased
    where all bins are in use (in small slices that would be too noisy). A root's
    difference follows from it and one of the two errors; the one among both intervals that gives the
    widest is taken: near θ = 0, where roots aren't smooth, and for large differences the interval covers
    more often than its level says.
    """
    g, h = np.sqrt(bins_a.part) * bins_a.gap, np.sqrt(bins_b.part) * bins_b.gap
    noise, along = np.zeros(partition.size), np.zeros(partition.size)
    covariances = (
        cross_covariances(partition, x, y) for x, y in ((bins_a, bins_a), (bins_b, bins_b), (bins_a, bins_b))
    )
    for i, (own_a, own_b, shared) in enumerate(zip(*covariances, strict=True)):
        noise[i] = (own_a**2).sum() + (own_b**2).sum() - 2 * (shared**2).sum()
        along[i] = g[i] @ own_a @ g[i] + h[i] @ own_b @ h[i] - 2 * g[i] @ shared @ h[i] - noise[i]
    along += np.where((bins_a.count < MOST_BINS) | (bins_b.count < MOST_BINS), noise, 0.0)
    squared = find_moments(partition, bins_b).squared - find_moments(partition, bins_a).squared
    half = normal_quantile(level) * np.sqrt(2 * np.maximum(noise, 0.0) + 4 * np.maximum(along, 0.0))
    least, most = squared - half, squared + half

    def grown(root: FloatArray, by: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(np.maximum(root**2 + by, 0.0)) - root, dtype=np.float64)

    high = np.where(most >= 0, grown(one.low, most), -grown(other.high, -most))
    low = np.where(least <= 0, -grown(other.low, -least), grown(one.high, least))
    return Measurement(other.value - one.value, low, high, one.n, METHOD)

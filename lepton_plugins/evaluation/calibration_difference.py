"""The difference of two versions' squared calibration errors on the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.calibration import MOST_BINS, Bins, find_moments
from lepton_plugins.evaluation.intervals import mover, skewed_t
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition, tally

FloatArray = NDArray[np.float64]

METHOD = "paired difference of U-statistics, Hoeffding's variance without bias, t corrected for skewness and kurtosis"
#: The variance is taken for no less than this share of what it would be if both versions were calibrated.
_LEAST = 0.4


def calibration_difference(
    partition: Partition, bins_a: Bins, bins_b: Bins, one: Measurement, other: Measurement, level: float
) -> Measurement:
    """Version b's squared calibration error minus version a's, in every slice.

    Both are U-statistics, Σ_i≠j h(i, j) with h = r_i r_j / m of two rows' residuals r in a bin of m rows, and so is
    their difference: estimated without bias, its variance has Hoeffding's two parts, 2ν + 4λ (1948, eq. 5.13).
    ν = Σ_i≠j h² is the pairs', all that there is where both versions are calibrated; λ the rows' own projections',
    with the bins' parts moving as well, as the jackknife has it in a bin of m rows (Efron & Stein 1981), less what
    it contains of ν, 4ν (m - 1) / (m - 2), and of the bins' own noise, 1/m of the whole. λ's estimate may be
    negative, and has to be, not to widen the interval near zero; a floor under the variance keeps it from vanishing.

    The third moment is Σ l³ + 6 Σ_i≠j l_i l_j h_ij with l the projections. Its second part, from squaring the gaps,
    moves the studentised limits half as far as a mean's skewness (its covariance with the variance's estimate is 2/3
    of it, a mean's the whole), so half of it is counted. Both moments count as far as λ makes the variance.
    """
    first, second = _Pairs(partition, bins_a), _Pairs(partition, bins_b)
    pairs = (
        second.norm(second)
        + first.norm(first)
        - 2 * second.norm(first)
        - partition.sum_units((second.own - first.own) ** 2)
    )
    pairs = np.maximum(pairs, 0.0)
    units = np.maximum(partition.units, 1)
    projection = second.projection - first.projection
    projection -= (partition.sum_units(projection) / units)[partition.slice_of_unit]
    squares = partition.sum_units(projection**2)
    contained, between = (first.contained + second.contained) / 2, (first.between + second.between) / 2
    along = squares * units / np.maximum(units - 1, 1) - 4 * contained * pairs
    variance = np.maximum((2 * pairs + along) / (1 + between), 2 * _LEAST * pairs)
    with np.errstate(invalid="ignore", divide="ignore"):
        third = partition.sum_units(projection**3) + 3 * (second.along(projection) - first.along(projection))
        skewness = np.sqrt(units) * third / squares**1.5
        kurtosis = units * partition.sum_units(projection**4) / squares**2 - 3
        trust = np.clip(1 - 2 * pairs / variance, 0.0, 1.0)
    varied = (squares > 0) & (variance > 0)
    skewness, kurtosis = np.where(varied, trust * skewness, 0.0), np.where(varied, trust**2 * kurtosis, 0.0)
    squared = find_moments(partition, bins_b).squared - find_moments(partition, bins_a).squared
    low, high = skewed_t(squared, np.sqrt(variance), skewness, kurtosis, units, level)
    # No residual varies, nor do the probabilities: the versions' own limits are all there is to go by.
    none = np.zeros_like(squared)
    apart = mover(one.value, (one.low, one.high), other.value, (other.low, other.high), none, none + 1)
    low, high = (np.where((variance > 0) & (units > 1), a, b) for a, b in zip((low, high), apart, strict=True))
    return Measurement(other.value - one.value, low, high, one.n, METHOD)


class _Pairs:
    """The kernel h of one version, as products of units' residuals in the bins.

    `weight` is the residuals' deviation from their bin's mean, so scaled that h = weight_i · weight_j; shape (n,)
    where rows are units, else (units, MOST_BINS). `own` (units,) is h(i, i), `projection` (units,) the influence
    on the estimate.
    """

    def __init__(self, partition: Partition, bins: Bins) -> None:
        self.partition, self.bins = partition, bins
        if partition.unit_of_row is None:
            at = (partition.codes, bins.bin_of_row)
            residual, weight = bins.residual, bins.influence
            count: FloatArray = np.ones(partition.codes.size)
        else:
            cell = partition.unit_of_row * MOST_BINS + bins.bin_of_row
            shape = (partition.slice_of_unit.size, MOST_BINS)
            residual, count, weight = (
                tally(cell, values, shape[0] * MOST_BINS).reshape(shape)
                for values in (bins.residual, None, bins.influence)
            )
            at = (partition.slice_of_unit[:, None], np.arange(MOST_BINS)[None, :])
        rows = np.maximum(partition.rows, 1)[at[0]]
        size = bins.size[at]
        others = size - count
        rest = np.maximum(others, 1)
        self.weight = weight * np.sqrt(size / rest)
        product = residual * np.where(others > 0, bins.gap[at] * size - residual, 0.0) / rest / rows

        def in_bin(values: FloatArray) -> FloatArray:
            cell = np.broadcast_to(at[0] * MOST_BINS + at[1], values.shape)
            return tally(cell.ravel(), values.ravel(), bins.gap.size).reshape(bins.gap.shape)

        whole = np.maximum(bins.size, 1)
        typical = count * (in_bin(product) / whole)[at]
        # As many units as would give the bin's rows if each had as many of them: the jackknife's m.
        units = np.maximum(whole**2 / np.maximum(in_bin(count**2), 1), 3)
        lost = np.sqrt(units * (units - 1)) / (units - 2)
        projection = typical + 2 * lost[at] * (product - typical)
        self.contained = (bins.part * (units - 1) / (units - 2)).sum(axis=1)
        self.between = (bins.part / units).sum(axis=1)
        own = self.weight**2
        self.own, self.projection = (v if v.ndim == 1 else v.sum(axis=1) for v in (own, projection))

    def along(self, projection: FloatArray) -> FloatArray:
        """Σ_i≠j projection_i · h_ij · projection_j, by slice."""
        partition = self.partition
        if self.weight.ndim == 1:
            cell = partition.codes * MOST_BINS + self.bins.bin_of_row
            sums = tally(cell, projection * self.weight, self.bins.gap.size).reshape(self.bins.gap.shape)
        else:
            sums = np.stack([partition.sum_units(projection * column) for column in self.weight.T], axis=1)
        return np.asarray((sums**2).sum(axis=1) - partition.sum_units(projection**2 * self.own), dtype=np.float64)

    def norm(self, other: _Pairs) -> FloatArray:
        """Σ over bins k, l of (Σ_i weight_ik · other's weight_il)², by slice."""
        if self.weight.ndim == 1:
            cell = (self.partition.codes * MOST_BINS + self.bins.bin_of_row) * MOST_BINS + other.bins.bin_of_row
            shared = tally(cell, self.weight * other.weight, self.partition.size * MOST_BINS**2)
            return np.asarray((shared.reshape(self.partition.size, -1) ** 2).sum(axis=1), dtype=np.float64)
        order = np.argsort(self.partition.slice_of_unit, kind="stable")
        ends = np.cumsum(self.partition.units)[:-1]
        slices = zip(np.split(self.weight[order], ends), np.split(other.weight[order], ends), strict=True)
        return np.array([((a.T @ b) ** 2).sum() for a, b in slices])

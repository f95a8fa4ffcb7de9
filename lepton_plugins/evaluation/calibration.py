"""The squared calibration error: how far stated probabilities are from the frequencies that come true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.intervals import alike, solve
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition, tally

FloatArray = NDArray[np.float64]

MOST_BINS = 15
ROWS_A_BIN = 10


@dataclass(slots=True)
class Bins:
    """Gaps between frequency and probability in each slice's bins, shapes (slices, MOST_BINS).

    `gap` is the mean of outcome - probability, `part` the bin's part of the slice's rows, `count` (slices,)
    the number of bins, `size` a bin's rows. `residual` (n,) is outcome - probability, `influence` (n,) each row's
    on its bin's √part · gap.
    """

    gap: FloatArray
    part: FloatArray
    count: NDArray[np.intp]
    bin_of_row: NDArray[np.intp]
    influence: FloatArray
    noise: FloatArray
    size: FloatArray
    residual: FloatArray


@dataclass(slots=True)
class Moments:
    """Q = Σ part · gap² is the error plus noise: a quadratic form in normal gaps with covariance Σ, shapes (slices,).

    `trace` = tr Σ, `trace2` = tr Σ², `along` the variance in the direction of the gaps, g'Σg / g'g.
    """

    q: FloatArray
    trace: FloatArray
    trace2: FloatArray
    along: FloatArray

    @property
    def squared(self) -> FloatArray:
        """Unbiased for the squared calibration error; may be negative."""
        return self.q - self.trace


def calibration_error(
    partition: Partition,
    probability: FloatArray,
    outcome: NDArray[np.bool_],
    order: NDArray[np.intp],
    level: float,
) -> Measurement:
    """Mean square over bins of E[outcome - probability | bin], debiased, in every slice.

    The squared ℓ2 calibration error, Σ_b part_b · E[outcome - probability | bin b]²: the part of the Brier score
    that recalibration would take away (its reliability; Murphy 1973), over at most 15 bins of equal size by
    `probability` (one per 10 rows in small slices, which see coarser errors only; rows with equal probability
    share a bin). Squared, because a root has no unbiased estimate and the difference of two roots near zero no
    interval that covers at its level. The plain estimate is biased upwards by noise; its expected part is
    subtracted (Kumar, Liang & Ma 2019, "Verified uncertainty calibration", section 5; Ferro & Fricker 2012), and
    a negative rest is shown as 0.

    The interval inverts a scaled noncentral χ² test on Q, its lower tail given up towards zero so that the interval
    is never empty and covers there too. A Q below what perfect calibration gives in 1 - level of the samples
    counts as that for the upper limit: gaps that happen to cancel are no better evidence.
    `order` is `argsort(probability)`.
    """
    bins = find_bins(partition, probability, outcome, order)
    moments = find_moments(partition, bins)
    low, high = _limits(moments, level)
    # Certain of every row, and right: at most a share of units may be otherwise, each wrong by one.
    _, share = alike(np.zeros_like(high), partition.units, level, 0.0, 1.0)
    high = np.where((moments.q <= 0) & (moments.trace <= 0), share, high)
    # A single unit shows no spread to go by.
    low, high = np.where(partition.units < 2, 0.0, low), np.where(partition.units < 2, 1.0, high)
    value = np.clip(moments.squared, 0.0, 1.0)
    value[partition.rows < 2] = np.nan
    robust = "cluster-robust " if partition.clustered else ""
    methods = [
        f"mean square over {count} equal-size bins, debiased (Kumar et al. 2019), {robust}noncentral χ² interval"
        for count in bins.count
    ]
    return Measurement(value, low, high, partition.rows, methods, "needs two rows or more")


def find_bins(
    partition: Partition, probability: FloatArray, outcome: NDArray[np.bool_], order: NDArray[np.intp]
) -> Bins:
    """Each slice's rows in bins of equal size by `probability` (rows,); `order` is its argsort."""
    codes = partition.codes
    small = codes[order].astype(np.uint16) if partition.size < 2**16 else codes[order]
    rows = order[np.argsort(small, kind="stable")]
    code, value = codes[rows], probability[rows]
    start = np.cumsum(partition.rows) - partition.rows
    rank = np.arange(rows.size) - start[code]
    tied = np.zeros(rows.size, dtype=bool)
    tied[1:] = (code[1:] == code[:-1]) & (value[1:] == value[:-1])
    rank = np.maximum.accumulate(np.where(tied, 0, rank + start[code])) - start[code]

    count = np.clip(partition.rows // ROWS_A_BIN, 1, MOST_BINS)
    bin_of_row = np.empty(rows.size, dtype=np.intp)
    bin_of_row[rows] = rank * count[code] // np.maximum(partition.rows, 1)[code]

    shape = (partition.size, MOST_BINS)
    cell = codes * MOST_BINS + bin_of_row
    cells = partition.size * MOST_BINS
    size = np.bincount(cell, minlength=cells)
    safe = np.maximum(size, 1)
    residual = outcome - probability
    gap = tally(cell, residual, cells) / safe
    centred = residual - gap[cell]
    stated = tally(cell, probability, cells) / safe
    part = size / np.repeat(np.maximum(partition.rows, 1), MOST_BINS)
    # One row's worth of the stated variance keeps a bin without spread from looking certain; with it
    # the sum has as many degrees of freedom as the bin has rows.
    squares = tally(cell, centred**2, cells)
    inflate = np.sqrt((squares + stated * (1 - stated)) / np.where(squares > 0, squares, 1.0))
    influence = np.sqrt(part)[cell] / safe[cell] * centred * inflate[cell]
    alone = np.where((squares <= 0) & (size > 0), part * stated * (1 - stated) / safe**2, 0.0)
    return Bins(
        gap.reshape(shape),
        part.reshape(shape),
        count,
        bin_of_row,
        influence,
        alone.reshape(shape),
        size.reshape(shape).astype(np.float64),
        residual,
    )


def find_moments(partition: Partition, bins: Bins) -> Moments:
    """What the interval of each slice's Q needs, cluster-robust where the rows come in groups."""
    direction = np.sqrt(bins.part) * bins.gap
    q = (direction**2).sum(axis=1)
    if not partition.clustered:
        cell = partition.codes * MOST_BINS + bins.bin_of_row
        variance = tally(cell, bins.influence**2, bins.gap.size).reshape(bins.gap.shape)
        variance = variance + bins.noise
        # Q less the estimated trace is a U-statistic: its variance has m (m - 1) for a bin of m rows, not m².
        trace, trace2 = variance.sum(axis=1), (variance**2 * bins.size / np.maximum(bins.size - 1, 1)).sum(axis=1)
        spread = (variance * direction**2).sum(axis=1)
    else:
        trace, trace2, spread = np.zeros_like(q), np.zeros_like(q), np.zeros_like(q)
        for slice_, shared in enumerate(_covariances(partition, bins)):
            covariance = shared + np.diag(bins.noise[slice_])
            trace[slice_], trace2[slice_] = np.trace(covariance), (covariance**2).sum()
            spread[slice_] = direction[slice_] @ covariance @ direction[slice_]
    # How many rows have which gap is drawn as well.
    drawn = (bins.gap[partition.codes, bins.bin_of_row] ** 2 - q[partition.codes]) / partition.rows[partition.codes]
    spread = spread + partition.variance(drawn) / 4
    with np.errstate(invalid="ignore", divide="ignore"):
        central = np.where(trace > 0, trace2 / trace, 0.0)
        signal = q - trace
        along = np.clip((spread - trace2) / signal, central / 3, central * 3)
        # How far the gaps' own direction can be made out against noise.
        trust = np.clip(signal / (signal + 2 * np.sqrt(2 * trace2)), 0.0, 1.0)
    along = np.where(np.isfinite(along) & (signal > 0), trust * along + (1 - trust) * central, central)
    return Moments(q, trace, trace2, along)


def _covariances(partition: Partition, bins: Bins) -> Iterator[FloatArray]:
    """Cluster-robust covariance of √part · gap between bins, (MOST_BINS, MOST_BINS), slice by slice."""
    assert partition.unit_of_row is not None
    order = np.argsort(partition.slice_of_unit, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(order.size)
    cell = position[partition.unit_of_row] * MOST_BINS + bins.bin_of_row
    sums = tally(cell, bins.influence, order.size * MOST_BINS).reshape(order.size, MOST_BINS)
    end = 0
    for count in partition.units.tolist():
        start, end = end, end + count
        yield sums[start:end].T @ sums[start:end] * (count / max(count - 1, 1))


def _limits(moments: Moments, level: float) -> tuple[FloatArray, FloatArray]:
    from scipy.special import chdtri, chndtr, ndtr

    alpha = 1 - level
    with np.errstate(invalid="ignore", divide="ignore"):
        # No noise at all (an empty slice): any scale does.
        scale = np.where(moments.trace > 0, moments.trace2 / moments.trace, 1.0)
        freedom = np.where(moments.trace2 > 0, moments.trace**2 / moments.trace2, 1.0)

    def below(squared: FloatArray, q: FloatArray) -> FloatArray:
        """P(Q' ≤ q) where the error is `squared`: Q ~ scale · χ²(freedom, squared / scale), its variance set right."""
        central = 2 * freedom * scale**2
        stretch = np.sqrt((central + 4 * moments.along * squared) / (central + 4 * scale * squared))
        mean = scale * freedom + squared
        x = np.maximum(mean + (q - mean) / stretch, 0.0) / scale
        shift = squared / scale
        # Far from zero the noncentral χ² is normal; SciPy's series is slow and loses digits there.
        far = shift > 5000
        near = chndtr(np.where(far, 1.0, x), freedom, np.where(far, 0.0, shift))
        normal = ndtr((x - freedom - shift) / np.sqrt(2 * freedom + 4 * shift))
        return np.asarray(np.where(far, normal, near), dtype=np.float64)

    likely = np.maximum(moments.q, scale * chdtri(freedom, level))

    def lower_tail(squared: FloatArray) -> FloatArray:
        return np.asarray(alpha / 2 * -np.expm1(-squared / scale / np.sqrt(8 * freedom)), dtype=np.float64)

    def not_too_small(squared: FloatArray) -> NDArray[np.bool_]:
        return below(squared, moments.q) <= 1 - alpha + lower_tail(squared)

    def not_too_large(squared: FloatArray) -> NDArray[np.bool_]:
        return below(squared, likely) >= lower_tail(squared)

    zero, one = np.zeros_like(moments.q), np.ones_like(moments.q)
    low = np.where(not_too_small(zero), 0.0, solve(not_too_small, one, zero))
    high = np.where(not_too_large(one), 1.0, solve(not_too_large, zero, one))
    return low, high

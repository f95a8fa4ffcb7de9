"""Means over rows, and ratios of two such means, in every slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.intervals import alike, skewed_t
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition

FloatArray = NDArray[np.float64]

METHOD = "mean of rows: Student's t corrected for skewness and kurtosis (Hall 1992)"
CLUSTERED = "mean of rows: cluster-robust Student's t corrected for skewness and kurtosis (Hall 1992)"


def mean(partition: Partition, values: FloatArray, level: float, low: float, high: float) -> Measurement:
    """The mean of `values` (n,), whose range is [low, high].

    With groups it is a ratio of sums over units, Σ values / Σ rows, with its cluster-robust error.
    """
    return ratio(partition, values, None, level, low, high)


def ratio(
    partition: Partition,
    above: FloatArray,
    below: FloatArray | None,
    level: float,
    low: float,
    high: float,
) -> Measurement:
    """Σ above / Σ below by slice (`below` None: the number of rows), by linearisation over units."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = partition.rows.astype(np.float64) if below is None else partition.sum(below)
        value = partition.sum(above) / total
        value[total <= 0] = np.nan
        centre = np.nan_to_num(value)[partition.codes]
        residual = above - centre if below is None else above - centre * below
        scale = np.where(total > 0, total, 1.0)
        sums = partition.unit_sums(residual)
        second = partition.sum_units(sums * sums)
        units = np.maximum(partition.units, 1)
        error = np.sqrt(second * units / np.maximum(units - 1, 1)) / scale
        spread = np.sqrt(second / units)
        # Rounding leaves a residue where all rows are alike.
        flat = spread * units <= 1e-12 * np.maximum(np.abs(np.nan_to_num(value)) * scale, 1e-300)
        standard = sums / np.where(flat, 1.0, spread)[partition.slice_of_unit]
        squares = standard * standard
        skewness = np.where(flat, 0.0, partition.sum_units(squares * standard) / units)
        kurtosis = np.where(flat, 0.0, partition.sum_units(squares * squares) / units - 3)
        lower, upper = skewed_t(np.nan_to_num(value), error, skewness, kurtosis, units, level)
        flat_lower, flat_upper = alike(np.nan_to_num(value), units, level, low, high)
    return Measurement(
        value=value,
        low=np.where(flat, flat_lower, lower),
        high=np.where(flat, flat_upper, upper),
        n=partition.rows,
        method=CLUSTERED if partition.clustered else METHOD,
        undefined="no rows",
        influence=lambda: residual / scale[partition.codes],
    )

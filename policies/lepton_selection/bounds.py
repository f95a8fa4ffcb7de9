"""How little the mean of a choice may be, by the rows that it was looked at on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_selection.shrinkage import moments

Floats = NDArray[np.float64]


def lower_bounds(values: Floats, groups: NDArray[np.intp] | None, sure: float) -> Floats:
    """What the means of `values` (rows, k) are at least, each with probability `sure`; shape (k,).

    One-sided, by Student's t; rows of one of the `groups` (rows,) count as one unit. A single unit shows nothing.
    """
    from scipy.stats import t

    found = moments(values, np.zeros(len(values), dtype=np.intp), groups)
    if sure == 0.5:
        return np.asarray(found.mean[0])
    units = float(found.units[0])
    if units < 2:
        return np.full(values.shape[1], -np.inf)
    bounds: Floats = found.mean[0] - t.ppf(sure, units - 1) * np.sqrt(found.variance[0] / found.rows[0])
    return bounds

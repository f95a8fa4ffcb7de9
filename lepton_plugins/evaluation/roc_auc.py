"""The area under the ROC curve: DeLong's variance in O(n log n), in all slices at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.intervals import normal_quantile, solve, t_quantile
from lepton_plugins.evaluation.macro import Components, Layer, macro
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition, tally

FloatArray = NDArray[np.float64]

METHOD = "DeLong (1988), score interval with Newcombe's variance function"
CLUSTERED = "cluster-robust DeLong (Obuchowski 1997), score interval with Newcombe's variance function"
#: At this many rows of the rarer class, half of the variance is DeLong's and half Newcombe's.
_HALF_TRUST = 10


def roc_auc(
    partition: Partition,
    scores: Sequence[FloatArray],
    positives: Sequence[NDArray[np.bool_]],
    orders: Sequence[NDArray[np.intp]],
    level: float,
) -> Measurement:
    """The mean over classes of the one-versus-rest AUC; of one class for a binary target.

    `scores[c]` (n,) ranks the rows for class c, `positives[c]` (n,) says which are of it, `orders[c]` is
    `argsort(scores[c])`. A class absent from a slice is left out of its mean; ties count one half.
    """
    parts = [_one_class(partition, s, p, o, level) for s, p, o in zip(scores, positives, orders, strict=True)]
    method = CLUSTERED if partition.clustered else METHOD
    if len(parts) == 1:
        area, low, high, _, influence = parts[0]
        return Measurement(area, low, high, partition.rows, method, "one class only", lambda: influence)
    components = Components(
        value=np.stack([part[0] for part in parts]),
        low=np.stack([part[1] for part in parts]),
        high=np.stack([part[2] for part in parts]),
        errors=np.sqrt(np.stack([part[3] for part in parts])),
        layers=[Layer(np.full(partition.codes.size, c), part[4]) for c, part in enumerate(parts)],
    )
    return macro(partition, components, f"mean of one versus rest: {method}", "one class only")


def _one_class(
    partition: Partition, score: FloatArray, positive: NDArray[np.bool_], order: NDArray[np.intp], level: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Area, limits and variance by slice, and the rows' influence (DeLong's structural components)."""
    codes = partition.codes
    small = codes[order].astype(np.uint16) if partition.size < 2**16 else codes[order]
    rows = order[np.argsort(small, kind="stable")]  # by slice, then by score: radix sort on 16 bits
    code, value, hit = codes[rows], score[rows], positive[rows]

    starts = np.empty(rows.size, dtype=bool)
    if rows.size:
        starts[0] = True
        starts[1:] = (code[1:] != code[:-1]) | (value[1:] != value[:-1])
    tie = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    tied_hits = np.add.reduceat(hit.astype(np.float64), first) if rows.size else np.zeros(0)
    tied = np.diff(np.append(first, rows.size)).astype(np.float64)
    tied_misses = tied - tied_hits
    hits = np.bincount(codes[positive], minlength=partition.size).astype(np.float64)
    misses = partition.rows - hits
    slice_of_tie = code[first] if rows.size else np.zeros(0, dtype=np.intp)
    hits_before = np.cumsum(tied_hits) - tied_hits - (np.cumsum(hits) - hits)[slice_of_tie]
    misses_before = np.cumsum(tied_misses) - tied_misses - (np.cumsum(misses) - misses)[slice_of_tie]

    with np.errstate(invalid="ignore", divide="ignore"):
        beaten = ((misses_before + tied_misses / 2) / misses[slice_of_tie])[tie]
        beating = ((hits[slice_of_tie] - hits_before - tied_hits / 2) / hits[slice_of_tie])[tie]
        placement = np.where(hit, beaten, beating)
        area = tally(code[hit], placement[hit], partition.size) / hits
        both = (hits > 0) & (misses > 0)
        area = np.where(both, area, np.nan)
        influence = np.zeros(rows.size)
        influence[rows] = np.nan_to_num((placement - area[code]) / np.where(hit, hits[code], misses[code]))
        low, high = _limits(partition, area, influence, positive, hits, misses, level)
    return area, low, high, partition.variance(influence), influence


def _limits(
    partition: Partition,
    area: FloatArray,
    influence: FloatArray,
    positive: NDArray[np.bool_],
    hits: FloatArray,
    misses: FloatArray,
    level: float,
) -> tuple[FloatArray, FloatArray]:
    """All θ with |area - θ| ≤ z·√(c·V(θ)), V being Newcombe's (2006, method 5) variance function.

    c makes V(area) DeLong's variance. In small samples and near 0 and 1, where DeLong's collapses, c is
    drawn to 1, Newcombe's own: c counts k / (k + 10) for k rows of the rarer class.
    """
    if partition.clustered:
        variance = partition.variance(influence)
        rarer = np.minimum(partition.units_with(positive), partition.units_with(~positive)).astype(np.float64)
        z = t_quantile(level, partition.units - 1)
    else:
        squares = influence * influence
        of_hits = tally(partition.codes[positive], squares[positive], partition.size)
        of_misses = partition.sum(squares) - of_hits
        variance = of_hits * hits / np.maximum(hits - 1, 1) + of_misses * misses / np.maximum(misses - 1, 1)
        rarer = np.minimum(hits, misses)
        z = np.full(area.shape, normal_quantile(level))
    m, n, rarer = np.maximum(hits, 1), np.maximum(misses, 1), np.maximum(rarer, 1)
    if partition.clustered:  # where no variance is seen, units show as much as they are, not as their rows
        m, n = np.minimum(m, partition.units), np.minimum(n, partition.units)

    def newcombe(theta: FloatArray) -> FloatArray:
        pairs = (m + n) / 2 - 1
        shape = 1 + pairs * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return np.asarray(theta * (1 - theta) / (m * n) * shape, dtype=np.float64)

    theta = np.clip(np.nan_to_num(area, nan=0.5), 0.0, 1.0)
    own = newcombe(theta)
    seen = np.where((own > 0) & (rarer > 1), variance / np.where(own > 0, own, 1.0), 1.0)
    # With units, rows say nothing of the size of the variance: Newcombe's only stands in for a missing one.
    trust = np.where(variance > 0, 1.0, 0.0) if partition.clustered else rarer / (rarer + _HALF_TRUST)
    factor = trust * seen + (1 - trust)

    def accepts(limit: FloatArray) -> NDArray[np.bool_]:
        return np.abs(theta - limit) <= z * np.sqrt(factor * newcombe(limit))

    low = np.where(theta <= 0, 0.0, solve(accepts, theta, np.zeros_like(theta)))
    high = np.where(theta >= 1, 1.0, solve(accepts, theta, np.ones_like(theta)))
    return low, high

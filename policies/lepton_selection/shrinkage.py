"""Empirical-Bayes shrinkage of paired differences by segment, with simultaneous lower bounds.

Normal-normal model (Efron & Morris 1975): in segment s the measured mean difference of an arm is
m_s ~ N(θ_s, v_s), and the true differences are θ_s ~ N(μ, τ²) around the arm's own mean μ. τ² is Paule and
Mandel's estimate (1982; recommended by Veroniki et al. 2016). The lower bound of θ_s is

    B·μ + (1 - B)·m_s - c·sqrt((1 - B)·v_s + B²·var(μ)),   B = v_s / (v_s + τ²)

with c the Bonferroni quantile over all arms and segments. So where no arm differs from the default in any
segment, the chance that any lower bound is above zero is at most (1 - level) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Degrees of freedom that the variance over all segments lends to each one's (moderated variances,
#: Smyth 2004), so that a segment of a few alike rows doesn't pass for certain.
_PRIOR_DF = 10.0


@dataclass(frozen=True, slots=True)
class Differences:
    """Per segment and arm, shapes (segments, arms): raw mean, shrunken mean, its simultaneous lower bound."""

    raw: Floats
    shrunken: Floats
    low: Floats


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the differences, by segment: rows, units (clusters), means, variance of the means per row."""

    rows: Floats
    units: Floats
    mean: Floats
    variance: Floats


def shrink(
    differences: Floats,
    segments: NDArray[np.intp],
    groups: NDArray[np.intp] | None = None,
    *,
    level: float = 0.95,
    shrinkage: bool = True,
) -> Differences:
    """Shrunken paired differences of each arm in each segment.

    `differences` (rows, arms) is arm - default, positive is better; `segments` (rows,) numbers 0 … S - 1, each
    of them occurring; rows of one of the `groups` (rows,) count as one unit. Without `shrinkage` each segment
    stands for itself.
    """
    from scipy.stats import t

    found = moments(differences, segments, groups)
    spare = np.maximum(found.units - 1, 0)[:, None]
    pooled = (spare * found.variance).sum(axis=0) / max(spare.sum(), 1.0)
    # An arm that gives the default's very answers has no variance and no difference: any variance will do.
    pooled = np.where(pooled > 0, pooled, 1e-12 * np.square(found.mean).max(axis=0))
    pooled = np.where(pooled > 0, pooled, 1.0)
    own_df = spare + _PRIOR_DF
    variance = (spare * found.variance + _PRIOR_DF * pooled) / own_df / found.rows[:, None]
    count, arms = found.mean.shape
    tail = (1 - level) / 2 / (count * arms)
    if not shrinkage or count == 1:
        low = found.mean - t.isf(tail, own_df) * np.sqrt(variance)
        return Differences(found.mean, found.mean, low)
    between = _paule_mandel(found.mean, variance)
    weights = 1 / (variance + between)
    spread = 1 / weights.sum(axis=0)
    centre = spread * (weights * found.mean).sum(axis=0)
    if groups is not None:
        spread = spread * _design_effect(differences, segments, groups, found, variance)
    keep = variance / (variance + between)
    shrunken = keep * centre + (1 - keep) * found.mean
    own, shared = (1 - keep) * variance, np.square(keep) * spread
    # Satterthwaite: the bound leans on the segment's own degrees of freedom as far as its variance does.
    df = np.square(own + shared) / (np.square(own) / own_df + np.square(shared) / (spare.sum() + _PRIOR_DF))
    return Differences(found.mean, shrunken, shrunken - t.isf(tail, df) * np.sqrt(own + shared))


def moments(differences: Floats, segments: NDArray[np.intp], groups: NDArray[np.intp] | None) -> Moments:
    """Of `differences` (rows, arms) as `shrink` takes them."""
    from scipy.sparse import csr_array

    def sums(of: NDArray[np.intp], values: Floats, count: int) -> Floats:
        rows = np.arange(len(of))
        total: Floats = csr_array((np.ones(len(of)), (of, rows)), shape=(count, len(of))) @ values
        return total

    count = int(segments.max()) + 1
    sizes: Floats = np.ones(len(segments))
    if groups is not None:
        pairs, unit = np.unique(segments.astype(np.int64) * (int(groups.max()) + 1) + groups, return_inverse=True)
        segments = (pairs // (int(groups.max()) + 1)).astype(np.intp)
        differences, sizes = sums(unit, differences, len(pairs)), np.bincount(unit).astype(np.float64)
    units = np.bincount(segments, minlength=count).astype(np.float64)
    rows: Floats = np.bincount(segments, weights=sizes, minlength=count).astype(np.float64)
    mean = sums(segments, differences, count) / rows[:, None]
    # Σ (D - m·N)² over units, of sum D and size N each: the residual about the segment's mean.
    square = sums(segments, np.square(differences), count)
    if groups is None:
        residual = square - np.square(mean) * rows[:, None]
    else:
        cross = sums(segments, differences * sizes[:, None], count)
        squared = np.bincount(segments, weights=np.square(sizes), minlength=count)
        residual = square - 2 * mean * cross + np.square(mean) * squared[:, None]
    # Where all units are alike rounding leaves a residue of either sign.
    residual = np.where(residual > 1e-12 * square, residual, 0.0)
    correction = units / np.maximum(units - 1, 1)
    return Moments(rows, units, mean, residual * (correction / rows)[:, None])


def _paule_mandel(mean: Floats, variance: Floats) -> Floats:
    """τ² of each arm, shape (arms,): where Σ (m_s - μ)² / (v_s + τ²) equals segments - 1; zero if it never does."""

    def excess(between: Floats) -> Floats:
        weights = 1 / (variance + between)
        centre = (weights * mean).sum(axis=0) / weights.sum(axis=0)
        found: Floats = (weights * np.square(mean - centre)).sum(axis=0) - (len(mean) - 1)
        return found

    low = np.zeros(mean.shape[1])
    high = mean.var(axis=0, ddof=1)  # At the sample variance the sum can't exceed segments - 1 any more.
    none = excess(low) <= 0
    for _ in range(60):
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(none, 0.0, (low + high) / 2)


def _design_effect(
    differences: Floats, segments: NDArray[np.intp], groups: NDArray[np.intp], found: Moments, variance: Floats
) -> Floats:
    """How much more the overall mean varies because a group's rows lie in several segments; at least one."""
    residual = differences - found.mean[segments]
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    clustered = np.square(np.add.reduceat(residual[order], starts, axis=0)).sum(axis=0)
    independent = (variance * np.square(found.rows)[:, None]).sum(axis=0)
    effect: Floats = np.maximum(clustered / independent, 1.0)
    return effect

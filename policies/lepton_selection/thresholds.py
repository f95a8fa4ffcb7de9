"""Choosing a cascade's thresholds: every combination of quantiles, evaluated by cumulated histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lepton_selection.bounds import lower_bounds

Floats = NDArray[np.float64]

#: Cut points of the confidence at each stage but the last, by the number of stages.
_CUTS = {2: 200, 3: 60, 4: 24}
#: A threshold that no confidence is below, and one that every confidence is.
NEVER, ALWAYS = 0.0, 2.0
#: Rows times combinations that are held in memory together.
_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Every combination: mean utility and cost a row, shape (choices at stage 1, choices at stage 2, …)."""

    choices: Sequence[Floats]
    utility: Floats
    cost: Floats

    def best(self, allowed: NDArray[np.bool_], *, cheapest: bool) -> Chosen | None:
        """Of those allowed the cheapest, else the best; None where there are none.

        Ties go to the better, or the cheaper, and then to the lower thresholds.
        """
        if not allowed.any():
            return None
        first, second = (self.cost, -self.utility) if cheapest else (-self.utility, self.cost)
        order = np.lexsort((np.where(allowed, second, np.inf).ravel(), np.where(allowed, first, np.inf).ravel()))
        place = np.unravel_index(int(order[0]), self.utility.shape)
        return Chosen(
            tuple(float(choice[i]) for choice, i in zip(self.choices, place, strict=True)),
            float(self.utility[place]),
            float(self.cost[place]),
        )


class Chosen(NamedTuple):
    """One threshold for each stage but the last, and what they were evaluated to bring and cost a row."""

    thresholds: tuple[float, ...]
    utility: float
    cost: float


def keeping(
    confidence: Sequence[Floats],
    over: Floats,
    sure: float,
    groups: NDArray[np.intp] | None,
    among: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which of the thresholds `among` these keep what is wanted, both in the shape of `Thresholds.utility`.

    `over` (rows, k) is by how much each stage's answer exceeds it. Of so many combinations some look better than they
    are: the mean's lower bound, one sided, by the normal distribution, is above zero with probability `sure`. Rows of
    one of the `groups` (rows,) count as one unit (`bounds`).
    """
    rows, stages = over.shape
    nothing = [0.0] * stages
    found = thresholds(confidence, over, nothing)
    mean, enough = found.utility, among & (found.utility >= -1e-12)
    if sure == 0.5:
        return enough
    if groups is not None:
        return _keeping_by_unit(found.choices, confidence, over, sure, groups, enough)
    square = thresholds(confidence, np.square(over), nothing).utility
    error = np.sqrt(np.maximum(square - np.square(mean), 0.0) / rows)
    kept: NDArray[np.bool_] = among & (mean - NormalDist().inv_cdf(sure) * error >= -1e-12)
    return kept


def _keeping_by_unit(
    choices: Sequence[Floats],
    confidence: Sequence[Floats],
    over: Floats,
    sure: float,
    groups: NDArray[np.intp],
    among: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """A unit's rows add up, so histograms don't tell: each combination is looked at by row."""
    rows, stages = over.shape
    kept = np.zeros(among.shape, dtype=bool)
    places = np.argwhere(among)
    for some in np.array_split(places, rows * len(places) // _AT_ONCE + 1):
        values = np.repeat(over[:, -1:], len(some), axis=1)
        for stage in reversed(range(stages - 1)):
            stays = confidence[stage][:, None] >= choices[stage][some[:, stage]]
            np.copyto(values, over[:, stage : stage + 1], where=stays)
        kept[tuple(some.T)] = lower_bounds(values, groups, sure) >= -1e-12
    return kept


def thresholds(confidence: Sequence[Floats], utility: Floats, costs: Sequence[float]) -> Thresholds:
    """All thresholds of a cascade of k stages.

    `confidence` is (rows,) for each stage but the last, `utility` (rows, k), `costs` of a row at each stage. A row goes
    on from a stage where its confidence there is below the threshold.
    """
    rows, stages = utility.shape
    cuts = [_cuts(values, _CUTS[stages]) for values in confidence]
    bins = [np.searchsorted(own, values, side="right") for own, values in zip(cuts, confidence, strict=True)]
    shape = tuple(len(own) + 1 for own in cuts)
    flat = np.ravel_multi_index(bins, shape) if bins else np.zeros(rows, dtype=np.intp)
    choices = [np.r_[NEVER, own, ALWAYS] for own in cuts]
    total = np.zeros(tuple(len(own) for own in choices))
    spent = np.zeros_like(total)
    for stage in range(stages):
        # Rows that come here, by the thresholds before; what they bring if they stay, and how many there are.
        brought = _below(np.bincount(flat, weights=utility[:, stage], minlength=int(np.prod(shape))).reshape(shape))
        counted = _below(np.bincount(flat, np.ones(rows), minlength=int(np.prod(shape))).reshape(shape))
        later = tuple(slice(-1, None) for _ in range(stage + 1, stages - 1))
        before = (slice(None),) * stage
        if stage == stages - 1:
            total += brought
            spent += costs[stage] * counted
        else:
            total += brought[(*before, slice(-1, None), *later)] - brought[(*before, slice(None), *later)]
            spent += costs[stage] * counted[(*before, slice(-1, None), *later)]
    return Thresholds(choices, total / rows, spent / rows)


def _below(counted: NDArray[Any]) -> Floats:
    """Sums over the bins below each choice of thresholds: one longer than the histogram on every axis."""
    histogram: Floats = counted.astype(np.float64)
    for axis in range(histogram.ndim):
        summed = np.cumsum(histogram, axis=axis)
        nothing = np.zeros_like(np.take(summed, [0], axis=axis))
        histogram = np.concatenate([nothing, summed], axis=axis)
    return histogram


def _cuts(values: Floats, count: int) -> Floats:
    """Quantiles to five digits, each once: what is stored is what was tried."""
    found = np.quantile(values, np.linspace(0, 1, count + 1)[1:-1])
    cuts: Floats = np.unique(np.round(found, 5))
    return cuts

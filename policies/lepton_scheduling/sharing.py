"""The best shares among versions that run already: what is left of the problem once they are chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray

#: How often the price of a late answer is raised, and how often halved.
_RAISED, _HALVED = 40, 40


def best_shares(
    value: FloatArray,
    load: FloatArray,
    runs: NDArray[np.bool_],
    cores: float | None,
    late: FloatArray | None = None,
    most: float = 0.0,
) -> FloatArray | None:
    """Shares as by `_knapsack`, with Σ share·late ≤ `most`, too, where `late` (segments, versions) is given.

    A late answer gets a price (Everett 1963, Generalized Lagrange multiplier method), found by bisection; the answers
    just below and above it, mixed so that they meet the limit, are the optimum.
    """
    found = _knapsack(value, load, runs, cores)
    if late is None or found is None or (found * late).sum() <= most:
        return found
    least = np.where(np.isneginf(value) | ~runs[None, :], np.inf, late).min(axis=1).sum()
    if least > most:
        return None
    low, high, above, below = 0.0, float(np.ptp(value[np.isfinite(value)])) or 1.0, found, None
    for _ in range(_RAISED):
        found = _knapsack(value - high * late, load, runs, cores)
        if found is not None and (found * late).sum() <= most:
            below = found
            break
        low, high = high, 4 * high
    if below is None:
        return None
    for _ in range(_HALVED):
        middle = (low + high) / 2
        found = _knapsack(value - middle * late, load, runs, cores)
        assert found is not None
        if (found * late).sum() <= most:
            high, below = middle, found
        else:
            low, above = middle, found
    more, less = float((above * late).sum()), float((below * late).sum())
    part = (most - less) / (more - less) * (1 - 1e-9)
    mixed: FloatArray = part * above + (1 - part) * below
    return mixed


def _knapsack(value: FloatArray, load: FloatArray, runs: NDArray[np.bool_], cores: float | None) -> FloatArray | None:
    """Shares (segments, versions) of the greatest Σ share·value with Σ share·load ≤ `cores`; None if there are none.

    `value` is −∞ where a version may not answer; `load` is in cores. Exact: the continuous multiple-choice
    knapsack, by the steepest steps along each segment's frontier (Sinha & Zoltners 1979, The multiple-choice
    knapsack problem). At most one segment's answer is split.
    """
    columns = np.flatnonzero(runs)
    worth, cost = value[:, columns], load[:, columns]
    rows = np.arange(len(worth))
    shares = np.zeros(value.shape)
    top = worth.max(axis=1, initial=-np.inf)
    if np.isneginf(top).any():
        return None
    place = np.where(worth == top[:, None], cost, np.inf).argmin(axis=1)
    if cores is None or cost[rows, place].sum() <= cores:
        shares[rows, columns[place]] = 1.0
        return shares
    least = np.where(np.isneginf(worth), np.inf, cost).min(axis=1)
    place = np.where(cost == least[:, None], worth, -np.inf).argmax(axis=1)
    left = cores - float(least.sum())
    if left < -1e-12 * cores:
        return None
    steps = [step for row in rows.tolist() for step in _frontier(row, worth[row], cost[row], int(place[row]))]
    # Along one frontier the steps get less steep: a stable sort keeps their order.
    steps.sort(key=lambda step: -step[0])
    for _, row, to, more in steps:
        if more > left:
            part = max(left, 0.0) / more
            shares[row, columns[to]], shares[row, columns[place[row]]] = part, 1.0 - part
            place[row] = -1
            break
        place[row], left = to, left - more
    whole = place >= 0
    shares[rows[whole], columns[place[whole]]] = 1.0
    return shares


def _frontier(row: int, worth: FloatArray, cost: FloatArray, start: int) -> list[tuple[float, int, int, float]]:
    """(slope, row, version to go to, further cores) from the cheapest version to the most valuable one."""
    steps: list[tuple[float, int, int, float]] = []
    at = start
    while True:
        gain, more = worth - worth[at], cost - cost[at]
        better = (gain > 0) & (more > 0)
        if not better.any():
            return steps
        slope = np.where(better, gain / np.where(better, more, 1.0), -np.inf)
        steepest = float(slope.max())
        to = int(np.where(slope == steepest, more, -np.inf).argmax())
        steps.append((steepest, row, to, float(more[to])))
        at = to

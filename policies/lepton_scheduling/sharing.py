"""The best shares among versions that run already: what is left of the problem once they are chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray


def best_shares(value: FloatArray, load: FloatArray, runs: NDArray[np.bool_], cores: float | None) -> FloatArray | None:
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

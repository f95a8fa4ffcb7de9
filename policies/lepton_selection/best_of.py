"""How probable it is that an arm is the best, where each is known as a normal distribution."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The normal distribution function in steps of 1/512 up to six standard deviations.
_STEPS, _END = 512, 6
#: Nodes in standard deviations around each arm's mean: so many an arm, and in all at least.
_FARTHEST, _EACH, _ALL = 4.5, 12, 96
#: Rows at once, so that a batch stays in the processor's cache.
_ROWS = 64


def best_of(means: Floats, spreads: Floats, *, optimistic: bool = False) -> Floats:
    """P(arm k is the greatest) for independent N(means_k, spreads_k²), shapes (rows, arms); rows sum to one.

    `optimistic` takes for each arm its mean where that is more than what is drawn (May, Korda, Lee, Leslie 2012):
    nothing is tried because the best arm may be worse than it seems.
    P_k = ∫ Π_{j≠k} Φ_j dΦ_k by the trapezoidal rule of Stieltjes integrals, on the nodes of all arms together: so
    that narrow arms are seen beside wide ones. No random numbers: the same state gives the same vector. Against
    simulation, 2 to 10 arms with spreads from 0.001 to 1: off by 0.001 in the mean, by 0.005 at most.
    """
    if means.shape[1] == 1:
        return np.ones_like(means)
    spreads = np.maximum(spreads, 1e-9 * (1.0 + np.abs(means)))
    if len(means) <= _ROWS:
        return _best_of(means, spreads, optimistic)
    vectors = np.empty_like(means)
    for start in range(0, len(means), _ROWS):
        rows = slice(start, start + _ROWS)
        vectors[rows] = _best_of(means[rows], spreads[rows], optimistic)
    return vectors


def _best_of(means: Floats, spreads: Floats, optimistic: bool) -> Floats:
    rows, arms = means.shape
    at = _nodes(arms, optimistic)
    nodes = (means[:, :, None] + spreads[:, :, None] * at).reshape(rows, arms * len(at))
    nodes.sort(axis=1)
    scale = _STEPS / spreads
    places = nodes[:, None, :] * scale[:, :, None]
    places -= (means * scale - (_END * _STEPS + 0.5))[:, :, None]
    below = _below(optimistic).take(places.astype(np.intp), mode="clip")
    others = below.prod(axis=1)[:, None, :] / below
    others[:, :, 1:] += others[:, :, :-1]
    vectors: Floats = np.einsum("rki,rki->rk", below[:, :, 1:] - below[:, :, :-1], others[:, :, 1:])
    vectors /= vectors.sum(axis=1, keepdims=True)
    return vectors


@lru_cache(maxsize=64)
def _nodes(arms: int, optimistic: bool) -> Floats:
    # On the table's grid, so that rounding can't tip a place to the next step.
    count = max(_EACH, _ALL // arms)
    if optimistic:
        # The step at the mean lies between two nodes of its own.
        above = np.round(np.linspace(0, _FARTHEST, count - 1) * _STEPS)
        return np.concatenate([[-1.0], above]) / _STEPS
    return np.round(np.linspace(-_FARTHEST, _FARTHEST, count) * _STEPS) / _STEPS


@lru_cache(maxsize=2)
def _below(optimistic: bool) -> Floats:
    """The distribution function by steps, not below 1e-12: it is divided by."""
    steps = range(-_END * _STEPS, _END * _STEPS + 1)
    normal = [max(0.5 * math.erfc(-step / _STEPS / math.sqrt(2)), 1e-12) for step in steps]
    return np.array([1e-12 if optimistic and step < 0 else value for step, value in zip(steps, normal, strict=True)])

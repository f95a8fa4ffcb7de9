"""Whose replicas fit on which nodes, and how many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import AllocationProblem, IntArray, replica_use


def most_on_node(problem: AllocationProblem) -> IntArray:
    """How many replicas of each version one node of each pool holds, shape (versions, pools)."""
    most = np.zeros((len(problem.versions), len(problem.pools)), dtype=np.int64)
    if not problem.pools:
        return most
    use = replica_use(problem)
    for index, pool in enumerate(problem.pools):
        capacity = np.array(pool.capacity)
        with np.errstate(divide="ignore", invalid="ignore"):
            fits = np.where(use > 0, np.floor(capacity * (1 + 1e-9) / use), np.inf).min(axis=1)
        limit = 1 if problem.survive else np.iinfo(np.int32).max
        most[:, index] = np.where(problem.rate[:, index] > 0, np.minimum(fits, limit), 0)
    return most


def placeable(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions one replica of which runs on which pool, shape (versions, pools)."""
    found: NDArray[np.bool_] = most_on_node(problem) > 0
    return found

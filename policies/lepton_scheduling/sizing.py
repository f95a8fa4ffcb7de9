"""Replicas for given shares, without a search: whole ones, on the pools where a row takes least of a node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    RESOURCES,
    AllocationProblem,
    FloatArray,
    Placement,
    least_replicas,
    lost_rate,
    replica_use,
)
from lepton_scheduling.engine import Engine, by_scipy
from lepton_scheduling.fit import most_on_node
from lepton_scheduling.packing import packed


def per_row(problem: AllocationProblem) -> FloatArray:
    """The part of a node that a row a second takes where it takes least, shape (versions,); ∞ where it runs nowhere."""
    least: FloatArray = _per_row(problem).min(axis=1)
    return least


def _per_row(problem: AllocationProblem) -> FloatArray:
    """Shape (versions, pools): the resource of which a replica takes most decides."""
    part = np.full(problem.rate.shape, np.inf)
    use, fits = replica_use(problem), most_on_node(problem) > 0
    for index, pool in enumerate(problem.pools):
        capacity = np.array(pool.capacity)
        of_node = (use / np.where(capacity > 0, capacity, 1.0)).max(axis=1)
        can = fits[:, index]
        part[can, index] = of_node[can] / problem.rate[can, index]
    return part


def parts(problem: AllocationProblem) -> list[FloatArray]:
    """What each version's least replicas take of all nodes together, one array (versions,) a resource."""
    if not problem.pools:
        return []
    total = np.array([np.array(pool.capacity) * pool.nodes for pool in problem.pools]).sum(axis=0)
    use = replica_use(problem) * least_replicas(problem)[:, None]
    return [use[:, k] / total[k] for k in range(len(RESOURCES)) if total[k] > 0]


def least_use(problem: AllocationProblem, resource: str) -> FloatArray:
    """What a version uses of a budgeted resource, or of `versions`, when it runs at all, shape (versions,)."""
    if resource == "versions":
        return np.ones(len(problem.versions))
    if not problem.pools:
        use: FloatArray = getattr(problem, resource)
        return use
    return replica_use(problem)[:, RESOURCES.index(resource)] * least_replicas(problem)


def sized(
    problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], *, engine: Engine = by_scipy
) -> Placement | None:
    """Enough replicas for the shares, each on a node; None where they find no place.

    The largest first; each version goes where it runs already, then where a row takes least.
    """
    use, rate, least = replica_use(problem), problem.rate, least_replicas(problem)
    cost, most = _per_row(problem), most_on_node(problem)
    nodes = np.array([pool.nodes for pool in problem.pools])
    room = np.array([pool.capacity for pool in problem.pools]) * nodes[:, None] * (1 + 1e-9)
    need = problem.demand * (problem.traffic @ shares) + lost_rate(problem)
    need = np.where(problem.allowed.any(axis=0), need, 0.0)
    replicas = np.zeros(rate.shape, dtype=np.int64)
    chosen = np.flatnonzero(runs)
    # In nodes: what a version takes altogether.
    size = np.array([cost[i].min() * max(need[i], rate[i].max() * least[i]) for i in chosen.tolist()])
    for i in chosen[np.argsort(-size, kind="stable")].tolist():
        old = problem.in_force[i] if problem.in_force is not None and problem.move else np.zeros(len(nodes))
        for p in np.lexsort((cost[i], -old)).tolist():
            if not most[i, p]:
                continue
            missing = max(int(np.ceil(need[i] / rate[i, p] - 1e-9)), int(least[i] - replicas[i].sum()))
            with np.errstate(divide="ignore", invalid="ignore"):
                fits = np.where(use[i] > 0, np.floor(room[p] / use[i]), np.inf).min()
            count = int(min(missing, fits, most[i, p] * nodes[p]))
            if count > 0:
                replicas[i, p] += count
                room[p] -= count * use[i]
                need[i] -= count * rate[i, p]
        if need[i] > 1e-9 or replicas[i].sum() < least[i]:
            return None
    placement, over = packed(problem, replicas, engine=engine)
    return None if over.any() else placement

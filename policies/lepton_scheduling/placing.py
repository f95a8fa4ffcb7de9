"""From shares and counts to replicas that lie on nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    AllocationProblem,
    FloatArray,
    IntArray,
    Placement,
    keeps,
    least_replicas,
    lost_rate,
    required_of,
)
from lepton_scheduling.engine import Engine, by_scipy
from lepton_scheduling.packing import packed
from lepton_scheduling.program import Program

#: What HiGHS' tolerances may leave of a demand.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Placed:
    """Shares (segments, versions), which versions run, and where their replicas are."""

    shares: FloatArray
    runs: NDArray[np.bool_]
    placement: Placement


def needed(problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], replicas: IntArray) -> IntArray:
    """Of these replicas (versions, pools) those that the shares need.

    Those that go first: on pools that cost more, then not in force, then slower.
    """
    kept = np.where(runs[:, None], replicas, 0)
    demand = problem.demand * (problem.traffic @ shares) * (1 - _TOLERANCE) + lost_rate(problem)
    least = least_replicas(problem)
    prices = np.array([pool.price for pool in problem.pools])
    for i in np.flatnonzero(runs).tolist():
        old = problem.in_force[i] if problem.in_force is not None else np.zeros(len(prices))
        borne, count = float(problem.rate[i] @ kept[i]), int(kept[i].sum())
        spare = np.where(kept[i] > old, 0, 1)
        for p in np.lexsort((problem.rate[i], spare, -prices)).tolist():
            rate = problem.rate[i, p]
            while kept[i, p] and count > least[i] and borne - rate >= demand[i]:
                kept[i, p] -= 1
                borne, count = borne - rate, count - 1
    return kept


def place(
    problem: AllocationProblem,
    shares: FloatArray,
    runs: NDArray[np.bool_],
    replicas: IntArray,
    *,
    engine: Engine = by_scipy,
) -> tuple[Placed, IntArray]:
    """The needed ones of these replicas on nodes, and those (versions, pools) that found no place."""
    placement, over = packed(problem, needed(problem, shares, runs, replicas), engine=engine)
    return Placed(shares, runs, placement), over


def replaced(program: Program, limits: dict[str, float], found: Placed, *, engine: Engine = by_scipy) -> Placed | None:
    """The best shares with the replicas that found a place; None where they can't bear the load.

    A linear program: what runs, and how often, is given.
    """
    problem = program.problem
    replicas = found.placement.replicas
    runs = found.runs & (replicas.sum(axis=1) >= least_replicas(problem))
    if (required_of(problem) & ~runs).any():
        return None
    kept = np.where(runs[:, None], replicas, 0)
    result = program.solve(program.mixture(), limits, runs=runs, replicas=kept, relaxed=True, engine=engine)
    if result.x is None:
        return None
    shares = program.shares(result.x)
    if problem.form == "mixture":
        runs = required_of(problem) | (shares > 0).any(axis=0)
    again = needed(problem, shares, runs, kept)
    settled = Placed(shares, runs, _fewer(found.placement, again))
    return settled if keeps(problem, shares, runs, settled.placement, tolerance=_TOLERANCE) else None


def on_nodes(program: Program, x: FloatArray, shares: FloatArray, runs: NDArray[np.bool_]) -> Placed:
    """What a program that tells nodes apart decided."""
    problem, held = program.problem, program.in_bins(x)
    replicas = program.in_pools(x)
    nodes = [held[:, program.bin_pool == index].T for index in range(len(problem.pools))]
    kept = needed(problem, shares, runs, replicas)
    return Placed(shares, runs, _fewer(Placement(replicas, nodes), kept))


def _fewer(placement: Placement, kept: IntArray) -> Placement:
    """Without the replicas beyond `kept` (versions, pools), taken from the nodes that hold least."""
    nodes = []
    for index, held in enumerate(placement.nodes):
        held = held.copy()
        for i in np.flatnonzero(held.sum(axis=0) > kept[:, index]).tolist():
            for node in np.argsort(held.sum(axis=1), kind="stable").tolist():
                less = min(int(held[:, i].sum() - kept[i, index]), int(held[node, i]))
                held[node, i] -= less
        nodes.append(held[held.any(axis=1)])
    return Placement(kept, nodes)

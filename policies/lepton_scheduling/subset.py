"""A problem among some of its versions only, and answers brought back to all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import AllocationProblem, Placement, limits_of, required_of
from lepton_scheduling.engine import Engine, by_scipy
from lepton_scheduling.placing import Placed, place, replaced
from lepton_scheduling.program import Program

_BY_VERSION = ("weights", "cpu", "memory", "gpu", "gpu_memory", "cores", "rate", "in_force")


def among(problem: AllocationProblem, kept: NDArray[np.intp]) -> AllocationProblem:
    """The problem with the versions `kept`, by index in rising order, and no others."""
    number = {old: new for new, old in enumerate(kept.tolist())}
    arrays = {name: getattr(problem, name) for name in _BY_VERSION}
    return replace(
        problem,
        versions=[problem.versions[i] for i in kept.tolist()],
        utility=problem.utility[:, kept],
        allowed=problem.allowed[:, kept],
        required=required_of(problem)[kept],
        conflicts=[(number[a], number[b]) for a, b in problem.conflicts if a in number and b in number],
        **{name: value[kept] for name, value in arrays.items() if value is not None and len(value)},
    )


def best_among(
    problem: AllocationProblem, runs: NDArray[np.bool_], seconds: float, *, engine: Engine = by_scipy
) -> Placed | None:
    """The best allocation on pools in which these versions run, and in `mixture` no others; None if none was found."""
    kept = np.flatnonzero(runs)
    smaller = among(problem, kept)
    program, limits = Program(smaller), limits_of(smaller)
    everyone = np.ones(len(kept), dtype=bool) if problem.form == "select" else None
    worth = program.mixture()
    result = program.solve(worth, limits, runs=everyone, time_limit=seconds, gap=smaller.gap, engine=engine)
    if result.x is None:
        return None
    shares = program.shares(result.x)
    running = required_of(smaller) | (shares > 0).any(axis=0) if everyone is None else everyone
    found, over = place(smaller, shares, running, program.in_pools(result.x))
    settled = replaced(program, limits, found, engine=engine) if over.any() else found
    return None if settled is None else lifted(problem, kept, settled)


def lifted(problem: AllocationProblem, kept: NDArray[np.intp], found: Placed) -> Placed:
    """An answer among `kept` as one among all versions."""
    versions = len(problem.versions)

    def wide(values: NDArray[Any], axis: int) -> NDArray[Any]:
        shape = list(values.shape)
        shape[axis] = versions
        whole = np.zeros(shape, dtype=values.dtype)
        whole[(slice(None),) * axis + (kept,)] = values
        return whole

    nodes = [wide(held, 1) for held in found.placement.nodes]
    placement = Placement(wide(found.placement.replicas, 0), nodes)
    return Placed(wide(found.shares, 1), wide(found.runs, 0), placement)

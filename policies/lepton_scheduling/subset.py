"""A problem among some of its versions only, and answers brought back to all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, Placement, limits_of, required_of
from lepton_scheduling.engine import Engine, by_scipy
from lepton_scheduling.placing import Placed, place, replaced
from lepton_scheduling.program import Program

_BY_VERSION = ("weights", "late", "cpu", "memory", "gpu", "gpu_memory", "cores", "rate", "in_force")


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
    found, over = place(smaller, shares, running, program.in_pools(result.x), engine=engine)
    settled = replaced(program, limits, found, engine=engine) if over.any() else found
    return None if settled is None else lifted(problem, kept, settled)


def lifted(problem: AllocationProblem, kept: NDArray[np.intp], found: Placed) -> Placed:
    """An answer among `kept` as one among all versions."""
    versions, placement = len(problem.versions), widened(problem, kept, found.placement)
    return Placed(_wide(found.shares, kept, versions, 1), _wide(found.runs, kept, versions, 0), placement)


def solution_among_all(
    problem: AllocationProblem, kept: NDArray[np.intp], found: AllocationSolution
) -> AllocationSolution:
    """A solver's answer to the problem among `kept` as one to the whole problem."""
    versions = len(problem.versions)
    return replace(
        found,
        shares=_wide(found.shares, kept, versions, 1),
        runs=_wide(found.runs, kept, versions, 0),
        placement=None if found.placement is None else widened(problem, kept, found.placement),
    )


def widened(problem: AllocationProblem, kept: NDArray[np.intp], placement: Placement) -> Placement:
    """Replicas of `kept` as those of all versions."""
    versions = len(problem.versions)
    nodes = [_wide(held, kept, versions, 1) for held in placement.nodes]
    return Placement(_wide(placement.replicas, kept, versions, 0), nodes)


def _wide(values: NDArray[Any], kept: NDArray[np.intp], versions: int, axis: int) -> NDArray[Any]:
    shape = list(values.shape)
    shape[axis] = versions
    whole = np.zeros(shape, dtype=values.dtype)
    whole[(slice(None),) * axis + (kept,)] = values
    return whole

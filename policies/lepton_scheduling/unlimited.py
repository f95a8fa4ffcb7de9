"""Where no limit binds: each segment's best version, without a search."""

from __future__ import annotations

import numpy as np

from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, keeps, required_of
from lepton_scheduling.outcome import answer


def without_limits(problem: AllocationProblem, solver: str) -> AllocationSolution | None:
    """The best version of each segment, optimal without a search; None where that breaks a limit.

    Also where there are pools, and where `select` needs versions that are worth less than nothing.
    """
    if problem.pools:
        return None
    required = required_of(problem)
    worth = np.where(problem.allowed, problem.weights[None, :] * problem.utility, -np.inf)
    runs = required.copy()
    if problem.form == "select":
        runs |= (problem.weights * (problem.traffic @ problem.utility) > 0) & problem.allowed.any(axis=0)
        worth = np.where(runs[None, :], worth, -np.inf)
    # Ties go to versions that run anyway, then to the first.
    best = worth.max(axis=1, keepdims=True)
    if np.isneginf(best).any():
        return None
    choice = np.argmax((worth == best) * (1 + required[None, :]), axis=1)
    shares = np.zeros(problem.allowed.shape)
    shares[np.arange(len(choice)), choice] = 1.0
    runs[choice] = True
    if not keeps(problem, shares, runs, tolerance=1e-12):
        return None
    return answer(solver, problem, shares, runs, -np.inf, optimal=True)

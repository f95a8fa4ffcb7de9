"""`milp`: the exact allocation, by HiGHS through SciPy."""

from __future__ import annotations

import numpy as np

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import (
    AllocationProblem,
    AllocationSolution,
    FloatArray,
    keeps,
    limits_of,
    required_of,
)
from lepton_scheduling import infeasible
from lepton_scheduling.outcome import answer, worth_of
from lepton_scheduling.program import Program

NAME = "milp"


class MilpSolver:
    """Where the best version of each segment keeps all limits it is taken as it is; else HiGHS decides."""

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        limits = limits_of(problem)
        program = Program.of(problem)
        if not problem.allowed.any(axis=1).all():
            raise Infeasible(infeasible.reasons(program, limits))
        solution = without_limits(problem)
        if solution is not None:
            return solution
        return _select(program, limits) if problem.form == "select" else _mixture(program, limits)


def without_limits(problem: AllocationProblem, solver: str = NAME) -> AllocationSolution | None:
    """The best version of each segment, optimal without a search; None where that breaks a limit.

    Also where `select` needs versions that are worth less than nothing.
    """
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


def _mixture(program: Program, limits: dict[str, float]) -> AllocationSolution:
    problem = program.problem
    part = program.mixture()
    result = program.solve(part, limits, time_limit=problem.time_limit, gap=problem.gap)
    x = _solution(program, result, limits)
    shares = program.shares(x)
    runs = required_of(problem) | (shares > 0).any(axis=0)
    bound = worth_of(problem, shares) + float(-result.mip_dual_bound - part @ x)
    return answer(NAME, problem, shares, runs, bound, optimal=result.status == 0)


def _select(program: Program, limits: dict[str, float]) -> AllocationSolution:
    problem = program.problem
    result = program.solve(program.select(), limits, time_limit=problem.time_limit, gap=problem.gap)
    runs = _solution(program, result, limits)[program.cells :] > 0.5
    best = program.solve(program.mixture(), limits, runs=runs, time_limit=problem.time_limit)
    shares = program.shares(_solution(program, best, limits))
    return answer(NAME, problem, shares, runs, float(-result.mip_dual_bound), optimal=result.status == 0)


def _solution(program: Program, result: object, limits: dict[str, float]) -> FloatArray:
    x: FloatArray | None = getattr(result, "x", None)
    if x is not None:
        return x
    if getattr(result, "status", None) == 2:
        raise Infeasible(infeasible.reasons(program, limits))
    raise NoSolutionInTime(NAME, program.problem.time_limit)

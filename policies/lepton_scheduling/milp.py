"""`milp`: the exact allocation, by HiGHS through SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, FloatArray, required_of, used_by
from lepton_scheduling import infeasible
from lepton_scheduling.program import RESOURCES, Program

NAME = "milp"


class MilpSolver:
    """Where the best version of each segment fits the budget it is taken as it is; else HiGHS decides.

    The first is optimal without a search: it is the optimum of the problem without its budgets.
    """

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        budgets = budgets_of(problem)
        program = Program.of(problem)
        if not problem.allowed.any(axis=1).all():
            raise Infeasible(infeasible.reasons(program, budgets))
        solution = _without_budget(problem)
        if solution is not None and _fits(solution.used, budgets):
            return solution
        return _select(program, budgets) if problem.form == "select" else _mixture(program, budgets)


def budgets_of(problem: AllocationProblem) -> dict[str, float]:
    """The budgets that are given, by resource."""
    given = {resource: getattr(problem.budget, resource) for resource in RESOURCES}
    return {resource: float(value) for resource, value in given.items() if value is not None}


def worth_of(problem: AllocationProblem, shares: FloatArray) -> float:
    """Σ_s traffic_s Σᵢ share_is·wᵢ·P_is."""
    return float(problem.traffic @ (shares * problem.utility) @ problem.weights)


def chosen_worth(problem: AllocationProblem, runs: NDArray[np.bool_]) -> float:
    """Σᵢ xᵢ·wᵢ·Pᵢ."""
    return float((problem.weights * (problem.traffic @ problem.utility)) @ runs)


def _without_budget(problem: AllocationProblem) -> AllocationSolution | None:
    """The optimum where nothing is scarce; None where `select` needs versions that are worth less than nothing."""
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
    objective = chosen_worth(problem, runs) if problem.form == "select" else worth_of(problem, shares)
    used = used_by(problem, shares, runs)
    return AllocationSolution(NAME, "optimal", shares, runs, objective, objective, 0.0, used)


def _fits(used: dict[str, float], budgets: dict[str, float]) -> bool:
    return all(used[resource] <= budget * (1 + 1e-12) for resource, budget in budgets.items())


def _mixture(program: Program, budgets: dict[str, float]) -> AllocationSolution:
    problem = program.problem
    part = program.mixture()
    result = program.solve(part, budgets, time_limit=problem.time_limit, gap=problem.gap)
    x = _solution(program, result, budgets)
    shares = program.shares(x)
    runs = required_of(problem) | (shares > 0).any(axis=0)
    objective = worth_of(problem, shares)
    bound = max(objective, objective + float(-result.mip_dual_bound - part @ x))
    return _answer(problem, result.status, shares, runs, objective, bound)


def _select(program: Program, budgets: dict[str, float]) -> AllocationSolution:
    problem = program.problem
    result = program.solve(program.select(), budgets, time_limit=problem.time_limit, gap=problem.gap)
    runs = _solution(program, result, budgets)[program.cells :] > 0.5
    best = program.solve(program.mixture(), budgets, runs=runs, time_limit=problem.time_limit)
    shares = program.shares(_solution(program, best, budgets))
    objective = chosen_worth(problem, runs)
    return _answer(problem, result.status, shares, runs, objective, max(objective, float(-result.mip_dual_bound)))


def _solution(program: Program, result: object, budgets: dict[str, float]) -> FloatArray:
    x: FloatArray | None = getattr(result, "x", None)
    if x is not None:
        return x
    if getattr(result, "status", None) == 2:
        raise Infeasible(infeasible.reasons(program, budgets))
    raise NoSolutionInTime(NAME, program.problem.time_limit)


def _answer(
    problem: AllocationProblem,
    status: int,
    shares: FloatArray,
    runs: NDArray[np.bool_],
    objective: float,
    bound: float,
) -> AllocationSolution:
    gap = (bound - objective) / abs(bound) if bound else 0.0
    used = used_by(problem, shares, runs)
    return AllocationSolution(
        NAME, "optimal" if status == 0 else "feasible", shares, runs, objective, bound, max(gap, 0.0), used
    )

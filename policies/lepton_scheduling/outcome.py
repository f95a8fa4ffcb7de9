"""Answers with what is known of how good they can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    AllocationProblem,
    AllocationSolution,
    FloatArray,
    IntArray,
    Placement,
    runnable,
    used_by,
)
from lepton_scheduling.program import Program

#: What two sums of the same figures may differ by.
_ROUNDING = 1e-9


def worth_of(problem: AllocationProblem, shares: FloatArray) -> float:
    """Σ_s traffic_s Σᵢ share_is·wᵢ·P_is."""
    return float(problem.traffic @ (shares * problem.utility) @ problem.weights)


def chosen_worth(problem: AllocationProblem, runs: NDArray[np.bool_]) -> float:
    """Σᵢ xᵢ·wᵢ·Pᵢ."""
    return float((problem.weights * (problem.traffic @ problem.utility)) @ runs)


def moves_of(problem: AllocationProblem, replicas: IntArray) -> int:
    """Replicas that are started: Σ_ip max(0, r_ip − in_force_ip)."""
    return 0 if problem.in_force is None else int(np.maximum(replicas - problem.in_force, 0).sum())


def price_of(problem: AllocationProblem, placement: Placement) -> float:
    """Σ_p price_p·n_p, in the pools' own unit."""
    return float(placement.used_nodes @ np.array([pool.price for pool in problem.pools]))


def objective_of(
    problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], placement: Placement | None = None
) -> float:
    """The objective in the form that the problem asks for, less what nodes and moves cost."""
    worth = chosen_worth(problem, runs) if problem.form == "select" else worth_of(problem, shares)
    if placement is None:
        return worth
    return worth - problem.price * price_of(problem, placement) - problem.move * moves_of(problem, placement.replicas)


def answer(
    solver: str,
    problem: AllocationProblem,
    shares: FloatArray,
    runs: NDArray[np.bool_],
    bound: float,
    placement: Placement | None = None,
    *,
    optimal: bool = False,
) -> AllocationSolution:
    """An allocation as the solver's answer; `optimal` where a search was finished, or the bound is met."""
    objective = objective_of(problem, shares, runs, placement)
    solution = AllocationSolution(
        solver,
        "optimal" if optimal else "feasible",
        shares,
        runs,
        objective,
        bound,
        0.0,
        used_by(problem, shares, runs, placement),
        placement,
    )
    return rebounded(solution, bound)


def rebounded(solution: AllocationSolution, bound: float) -> AllocationSolution:
    """The same answer with a better bound, and the gap that it leaves."""
    bound = max(bound, solution.objective)
    gap = (bound - solution.objective) / abs(bound) if bound else 0.0
    status = "optimal" if gap <= _ROUNDING else solution.status
    return replace(solution, bound=bound, gap=gap, status=status)


def upper_bound(program: Program, relaxed: float | None) -> float:
    """The objective's upper bound from the optimum of the relaxed program; without it, that without any limits."""
    problem = program.problem
    if problem.form == "select":
        each = problem.weights * (problem.traffic @ problem.utility)
        return float(np.maximum(each, 0.0) @ runnable(problem)) if relaxed is None else relaxed
    worth = problem.weights[None, :] * problem.utility
    if relaxed is None:
        return float(problem.traffic @ np.where(problem.allowed, worth, -np.inf).max(axis=1))
    return float(problem.traffic @ np.where(problem.allowed, worth, np.inf).min(axis=1)) + relaxed

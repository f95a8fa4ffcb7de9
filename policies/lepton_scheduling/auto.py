"""`auto`: exact while the time allows, then the heuristic; the better of the two."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from lepton_plugins.errors import NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution
from lepton_scheduling.genetic import GeneticSolver
from lepton_scheduling.milp import MilpSolver
from lepton_scheduling.outcome import rebounded

NAME = "auto"
#: The exact solver's part of the time; it seldom needs it.
_EXACT = 0.5


class AutoSolver:
    """`milp`, and where its part of the time wasn't enough for a proof, `genetic` in the rest.

    The answer bears the name of the solver that found it, and the lower of the two bounds.
    """

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        start = monotonic()
        try:
            exact = MilpSolver().solve(replace(problem, time_limit=_EXACT * problem.time_limit))
        except NoSolutionInTime:
            exact = None
        if exact is not None and exact.status == "optimal":
            return exact
        left = start + problem.time_limit - monotonic()
        if exact is not None and left <= 0:
            return exact
        try:
            other = GeneticSolver().solve(replace(problem, time_limit=max(left, 0.0)))
        except NoSolutionInTime:
            if exact is None:
                raise NoSolutionInTime(NAME, problem.time_limit) from None
            return exact
        if exact is None:
            return other
        best = exact if exact.objective >= other.objective else other
        return replace(rebounded(best, min(exact.bound, other.bound)), seconds=monotonic() - start)

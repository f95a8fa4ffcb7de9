"""`milp`: the exact allocation, by HiGHS through SciPy."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import numpy as np

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, limits_of
from lepton_scheduling import infeasible
from lepton_scheduling.engine import Engine, Timed, by_scipy
from lepton_scheduling.exact import Exact, better
from lepton_scheduling.outcome import upper_bound
from lepton_scheduling.pricing import Pricing
from lepton_scheduling.program import Program
from lepton_scheduling.search import searched
from lepton_scheduling.subset import among, solution_among_all
from lepton_scheduling.unlimited import without_limits

NAME = "milp"
#: The exact search's part of the time; the rest is for what comes after it, with pools a greedy answer, too.
_EXACT, _ON_POOLS = 0.97, 0.85
#: Versions that are looked at first, and the part of all beyond which all are.
_FIRST, _MOST = 50, 0.9
#: The first ones' part of the time, how many times as many come in next, and how few are looked at together.
_HALF, _GROWTH = 0.4, 2
_FEW = 100


class MilpSolver:
    """Where the best version of each segment keeps all limits it is taken as it is; else HiGHS decides.

    With pools the replicas are counted first and packed onto nodes then. Where all find a place, the counts' proof
    is the whole allocation's. Where some don't, nodes are told apart in the program, if it stays small; else the
    pools are planned smaller until they do, and the bound stays that of the counts.
    """

    name = NAME

    @property
    def engine(self) -> Engine:
        """Who solves the programs."""
        return by_scipy

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        start = monotonic()
        if not problem.allowed.any(axis=1).all():
            raise Infeasible(infeasible.reasons(Program(problem), limits_of(problem)))
        found = without_limits(problem, self.name)
        if found is None:
            found = self._solve(problem, start)
        return replace(found, seconds=monotonic() - start)

    def _solve(self, problem: AllocationProblem, start: float) -> AllocationSolution:
        """The exact answer. With pools, and no proof in time, the greedy one where that is better."""
        due = start + problem.time_limit
        search = Timed(self.engine, start + (_ON_POOLS if problem.pools else _EXACT) * problem.time_limit)
        finish = Timed(self.engine, due)
        found: AllocationSolution | None = None
        try:
            found = self._priced(problem, search, finish) or Exact(problem, self.name, search, finish).solve()
        except NoSolutionInTime:
            if not problem.pools:
                raise
        left = due - monotonic()
        if found is not None and (not problem.pools or found.status == "optimal" or left <= 0):
            return found
        try:
            other = searched("greedy", replace(problem, time_limit=max(left, 0.0)))
        except NoSolutionInTime:
            if found is None:
                raise NoSolutionInTime(self.name, problem.time_limit) from None
            return found
        best = better(found, other, other.bound if found is None else min(found.bound, other.bound))
        assert best is not None
        return best

    def _priced(self, problem: AllocationProblem, search: Timed, finish: Timed) -> AllocationSolution | None:
        """The answer among the versions that an optimum can hold; None where those are most of them.

        First among the few that add most at the relaxed program's prices; then, where what the others could add
        leaves more than the gap, among all that could.
        """
        if len(problem.versions) <= _FEW or problem.form == "select":
            return None
        program, limits = Program(problem), limits_of(problem)
        pricing = Pricing(program, limits, program.mixture())
        if not pricing.done:
            return None
        constant = upper_bound(program, 0.0)
        kept, best = pricing.best(_FIRST), None
        # Among the first there is seldom a proof: half of the time is for those that come in then.
        timed = Timed(self.engine, monotonic() + _HALF * search.left)
        while True:
            try:
                found = Exact(among(problem, kept), self.name, timed, finish).solve()
            except NoSolutionInTime:
                if best is not None:
                    return replace(best, status="feasible")
                # More versions would take longer still.
                if timed is search:
                    raise
                timed = search
                continue
            except Infeasible:
                return None if best is None else replace(best, status="feasible")
            bound = min(max(found.bound, pricing.outside(kept) + constant), pricing.bound + constant)
            bound = bound if best is None else min(bound, best.bound)
            best, timed = better(best, solution_among_all(problem, kept, found), bound), search
            assert best is not None
            # Each program is solved to the gap of what routing can win; what it left out may add so much of the whole.
            allowed = problem.gap * abs(best.bound)
            if best.bound - best.objective <= allowed + 1e-9:
                return replace(best, status="optimal")
            more = np.setdiff1d(pricing.reaching(best.objective - constant + allowed), kept)
            if search.over or not len(more):
                return replace(best, status="feasible")
            kept = np.union1d(kept, more[np.argsort(-pricing.adds[more], kind="stable")[: _GROWTH * len(kept)]])
            if len(kept) > _MOST * len(problem.versions):
                kept = np.arange(len(problem.versions))

"""`milp`: the exact allocation, by HiGHS through SciPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import (
    AllocationProblem,
    AllocationSolution,
    FloatArray,
    limits_of,
    required_of,
)
from lepton_scheduling import infeasible
from lepton_scheduling.engine import PROOF, Engine, Result, by_scipy
from lepton_scheduling.outcome import answer, rebounded, upper_bound
from lepton_scheduling.placing import Placed, on_nodes, place, replaced
from lepton_scheduling.pricing import Pricing
from lepton_scheduling.program import Program
from lepton_scheduling.search import searched
from lepton_scheduling.subset import among, solution_among_all
from lepton_scheduling.totals import Totals
from lepton_scheduling.unlimited import without_limits

NAME = "milp"
#: Replica columns up to which nodes are told apart in the program itself.
_NODE_EXACT = 6000
#: With pools, the exact search's part of the time; a greedy answer takes little.
_EXACT = 0.85
#: Versions that are looked at first, and the part of all beyond which all are.
_FIRST, _MOST = 50, 0.9
#: The first ones' part of the time, how many times as many come in next, and how few are looked at together.
_HALF, _GROWTH = 0.4, 2
_FEW = 100
#: How often pools are planned smaller because their replicas left no whole nodes to pack them onto.
_SHRUNK = 4


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
        end = start + (_EXACT if problem.pools else 1.0) * problem.time_limit
        found: AllocationSolution | None = None
        try:
            found = self._priced(problem, end) or _Exact(problem, self.name, self.engine, end).solve()
        except NoSolutionInTime:
            if not problem.pools:
                raise
        if found is not None and (not problem.pools or found.status == "optimal"):
            return found
        left = max(start + problem.time_limit - monotonic(), 0.1 * problem.time_limit)
        try:
            other = searched("greedy", replace(problem, time_limit=left))
        except NoSolutionInTime:
            if found is None:
                raise NoSolutionInTime(self.name, problem.time_limit) from None
            return found
        best = _better(found, other, other.bound if found is None else min(found.bound, other.bound))
        assert best is not None
        return best

    def _priced(self, problem: AllocationProblem, end: float) -> AllocationSolution | None:
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
        while True:
            # Among the first there is seldom a proof: half of the time is for those that come in then.
            left = max(end - monotonic(), 0.05 * problem.time_limit) * (_HALF if best is None else 1.0)
            try:
                smaller = replace(among(problem, kept), time_limit=left)
                found = _Exact(smaller, self.name, self.engine, monotonic() + left).solve()
            except (Infeasible, NoSolutionInTime):
                return None if best is None else replace(best, status="feasible")
            bound = min(max(found.bound, pricing.outside(kept) + constant), pricing.bound + constant)
            bound = bound if best is None else min(bound, best.bound)
            best = _better(best, solution_among_all(problem, kept, found), bound)
            assert best is not None
            # Each program is solved to the gap of what routing can win; what it left out may add so much of the whole.
            allowed = problem.gap * abs(best.bound)
            if best.bound - best.objective <= allowed + 1e-9:
                return replace(best, status="optimal")
            more = np.setdiff1d(pricing.reaching(best.objective - constant + allowed), kept)
            if monotonic() > end or not len(more):
                return replace(best, status="feasible")
            kept = np.union1d(kept, more[np.argsort(-pricing.adds[more], kind="stable")[: _GROWTH * len(kept)]])
            if len(kept) > _MOST * len(problem.versions):
                kept = np.arange(len(problem.versions))


@dataclass(slots=True)
class _Exact:
    """One exact solve; `end` is when its time is up."""

    problem: AllocationProblem
    name: str
    engine: Engine
    end: float

    def solve(self) -> AllocationSolution:
        program, limits = Program(self.problem), limits_of(self.problem)
        result, bound = self._in_totals(program, limits) or self._best(program, limits)
        if not self.problem.pools:
            shares, runs = self._shares(program, result, limits)
            return answer(self.name, self.problem, shares, runs, bound, optimal=result.status == "optimal")
        found = self._placed(program, result, limits)
        best = self._answer(found, bound, result)
        if best is None or best.gap > max(self.problem.gap, 1e-9):
            best = self._told_apart(program, limits, best, bound)
        if best is None:
            raise NoSolutionInTime(self.name, self.problem.time_limit)
        return best

    def _in_totals(self, program: Program, limits: dict[str, float]) -> tuple[Result, float] | None:
        """As `_best`, by totals first; None where they are of no use, or whole replicas with them are worth less.

        For a gap they take longer than they save, and so where a version has one replica a node at most.
        """
        if self.problem.gap >= PROOF or self.problem.survive:
            return None
        totals = Totals(program)
        if not totals.count:
            return None
        model = totals.together(program.model(self._worth(program), limits, start=program.as_in_force()))
        first = self.engine(model, self._left(), self.problem.gap)
        if first.x is None:
            return None
        second = self.engine(totals.apart(model, first.x), self._left(), self.problem.gap)
        short = first.bound - second.value > max(self.problem.gap, 1e-9) * abs(first.bound)
        if second.x is None or (short and first.status == "optimal"):
            return None
        return replace(second, status=first.status, bound=first.bound), upper_bound(program, first.bound)

    def _left(self) -> float:
        return max(self.end - monotonic(), 0.05 * self.problem.time_limit)

    def _worth(self, program: Program) -> FloatArray:
        return program.select() if self.problem.form == "select" else program.mixture()

    def _best(self, program: Program, limits: dict[str, float]) -> tuple[Result, float]:
        """The program's result, which has an x, and the objective's bound by it."""
        worth = self._worth(program)
        result = program.solve(
            worth,
            limits,
            time_limit=self._left(),
            gap=self.problem.gap,
            engine=self.engine,
            start=program.as_in_force(),
        )
        if result.status == "infeasible" and program.node_exact:
            raise Infeasible(infeasible.unpackable(self.problem, limits))
        if result.status == "infeasible":
            raise Infeasible(infeasible.reasons(program, limits))
        if result.x is None:
            raise NoSolutionInTime(self.name, self.problem.time_limit)
        return result, upper_bound(program, result.bound)

    def _shares(
        self, program: Program, result: Result, limits: dict[str, float]
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Shares and which versions run; in `select` the best shares among the chosen."""
        assert result.x is not None
        if self.problem.form == "select":
            runs = result.x[program.cells : program.r] > 0.5
            replicas = program.in_pools(result.x) if self.problem.pools and not program.node_exact else None
            best = program.solve(
                program.mixture(),
                limits,
                runs=runs,
                replicas=replicas,
                time_limit=self.problem.time_limit,
                engine=self.engine,
            )
            return program.shares(result.x if best.x is None else best.x), runs
        shares = program.shares(result.x)
        return shares, required_of(self.problem) | (shares > 0).any(axis=0)

    def _placed(self, program: Program, result: Result, limits: dict[str, float]) -> Placed | None:
        """The program's counts on nodes; where some find no place, the best that can be done with the others."""
        assert result.x is not None
        shares, runs = self._shares(program, result, limits)
        if program.node_exact:
            return on_nodes(program, result.x, shares, runs)
        found, over = place(self.problem, shares, runs, program.in_pools(result.x))
        return replaced(program, limits, found, engine=self.engine) if over.any() else found

    def _answer(self, found: Placed | None, bound: float, result: Result) -> AllocationSolution | None:
        if found is None:
            return None
        made = answer(self.name, self.problem, found.shares, found.runs, bound, found.placement)
        # A search that was finished within the gap, and whose counts all found a place, is optimal by that gap.
        close = made.gap <= max(self.problem.gap, 1e-9)
        return replace(made, status="optimal") if close and result.status == "optimal" else made

    def _told_apart(
        self, program: Program, limits: dict[str, float], best: AllocationSolution | None, bound: float
    ) -> AllocationSolution | None:
        """A better answer than the counts' own: node by node where that is small, else with pools planned smaller."""
        exact = Program(self.problem, node_exact=True)
        if len(exact.r_version) <= _NODE_EXACT:
            try:
                result, own = self._best(exact, limits)
            except NoSolutionInTime:
                return best
            bound = min(bound, own)
            made = self._answer(self._placed(exact, result, limits), bound, result)
            return _better(best, made, bound)
        fill = np.ones(len(self.problem.pools))
        for _ in range(_SHRUNK):
            fill *= 0.97
            smaller = Program(self.problem, fill=fill)
            try:
                result, _ = self._best(smaller, limits)
            except (Infeasible, NoSolutionInTime):
                break
            best = _better(best, self._answer(self._placed(smaller, result, limits), bound, result), bound)
            if (best is not None and best.gap <= self.problem.gap) or monotonic() > self.end:
                break
        return best


def _better(
    one: AllocationSolution | None, other: AllocationSolution | None, bound: float
) -> AllocationSolution | None:
    found = [item for item in (one, other) if item is not None]
    best = max(found, key=lambda item: item.objective, default=None)
    return None if best is None else rebounded(best, bound)

"""One exact solve: counts of replicas, then nodes, and answers made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, FloatArray, limits_of, required_of
from lepton_scheduling import infeasible
from lepton_scheduling.engine import PROOF, Result, Timed
from lepton_scheduling.outcome import answer, rebounded, upper_bound
from lepton_scheduling.placing import Placed, on_nodes, place, replaced
from lepton_scheduling.program import Program
from lepton_scheduling.totals import Totals

#: Replica columns up to which nodes are told apart in the program itself.
_NODE_EXACT = 6000
#: How often pools are planned smaller because their replicas left no whole nodes to pack them onto.
_SHRUNK = 4


@dataclass(slots=True)
class Exact:
    """One exact solve. `search` decides, and is out of time before `finish`, which brings what it found onto nodes."""

    problem: AllocationProblem
    name: str
    search: Timed
    finish: Timed

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
        first = self.search(model, None, self.problem.gap)
        if first.x is None:
            return None
        second = self.finish(totals.apart(model, first.x), None, self.problem.gap)
        short = first.bound - second.value > max(self.problem.gap, 1e-9) * abs(first.bound)
        if second.x is None or (short and first.status == "optimal"):
            return None
        return replace(second, status=first.status, bound=first.bound), upper_bound(program, first.bound)

    def _worth(self, program: Program) -> FloatArray:
        return program.select() if self.problem.form == "select" else program.mixture()

    def _best(self, program: Program, limits: dict[str, float]) -> tuple[Result, float]:
        """The program's result, which has an x, and the objective's bound by it."""
        if self.search.over:
            raise NoSolutionInTime(self.name, self.problem.time_limit)
        worth, start = self._worth(program), program.as_in_force()
        result = program.solve(worth, limits, gap=self.problem.gap, engine=self.search, start=start)
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
            best = program.solve(program.mixture(), limits, runs=runs, replicas=replicas, engine=self.finish)
            return program.shares(result.x if best.x is None else best.x), runs
        shares = program.shares(result.x)
        return shares, required_of(self.problem) | (shares > 0).any(axis=0)

    def _placed(self, program: Program, result: Result, limits: dict[str, float]) -> Placed | None:
        """The program's counts on nodes; where some find no place, the best that can be done with the others."""
        assert result.x is not None
        shares, runs = self._shares(program, result, limits)
        if program.node_exact:
            return on_nodes(program, result.x, shares, runs)
        found, over = place(self.problem, shares, runs, program.in_pools(result.x), engine=self.finish)
        return replaced(program, limits, found, engine=self.finish) if over.any() else found

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
            return better(best, made, bound)
        fill = np.ones(len(self.problem.pools))
        for _ in range(_SHRUNK):
            fill *= 0.97
            smaller = Program(self.problem, fill=fill)
            try:
                result, _ = self._best(smaller, limits)
            except (Infeasible, NoSolutionInTime):
                break
            best = better(best, self._answer(self._placed(smaller, result, limits), bound, result), bound)
            if (best is not None and best.gap <= self.problem.gap) or self.search.over:
                break
        return best


def better(one: AllocationSolution | None, other: AllocationSolution | None, bound: float) -> AllocationSolution | None:
    """The one with the higher objective, if any, with this bound."""
    found = [item for item in (one, other) if item is not None]
    best = max(found, key=lambda item: item.objective, default=None)
    return None if best is None else rebounded(best, bound)

"""What the heuristic solvers share: the bound, good first answers, the best answer so far, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import monotonic

import numpy as np

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.solver import (
    AllocationProblem,
    AllocationSolution,
    FloatArray,
    required_of,
    runnable,
)
from lepton_scheduling import infeasible
from lepton_scheduling.construction import Allocated, Construction, Runs
from lepton_scheduling.engine import Timed, by_scipy
from lepton_scheduling.exchange import Exchange
from lepton_scheduling.outcome import answer, upper_bound
from lepton_scheduling.placing import Placed, place, replaced
from lepton_scheduling.pricing import Pricing
from lepton_scheduling.subset import best_among
from lepton_scheduling.unlimited import without_limits

#: Prices of a core that the greedy constructions are tried at, in `Construction.scale`.
_PRICES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
#: The relaxed program's part of the time.
_RELAXED = 0.2
#: The exchanges' part of the time.
_EXCHANGE = 0.4
#: Seconds for the best allocation among versions that a search found.
_POLISH = 0.2
#: Keys stay below one: a key's price is key / (1 − key).
_HIGHEST = 0.999


@dataclass(slots=True)
class Search:
    """A search over random keys: one number in [0, 1] for each version, one for the price of a core.

    Keys times `Construction.density` are the order in which an allocation is built (random keys: Bean 1994;
    with the density's guidance they start near the greedy answer). An order that leaves a segment without an answer
    is repaired: it starts from a set that is known to do.
    """

    solver: str
    problem: AllocationProblem
    engine: Timed = field(init=False)
    build: Construction = field(init=False)
    best: Allocated | None = field(init=False, default=None)
    bound: float = field(init=False)
    relaxed: FloatArray | None = field(init=False, default=None)
    _cover: Runs | None = field(init=False, default=None)
    _covering: Allocated | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.engine = Timed(by_scipy, monotonic() + self.problem.time_limit)
        self.build = build = Construction(self.problem, self.engine)
        program = build.program
        if not self.problem.allowed.any(axis=1).all():
            raise Infeasible(infeasible.reasons(program, build.limits))
        worth = program.select() if self.problem.form == "select" else program.mixture()
        if self.problem.form == "mixture":
            pricing = Pricing(program, build.limits, worth)
            if pricing.done and pricing.x is not None:
                self.bound, x = upper_bound(program, pricing.bound), pricing.x
                self.relaxed = np.clip(x[program.cells : program.r], 0.0, 1.0)
                return
        seconds = _RELAXED * self.problem.time_limit
        result = program.solve(worth, build.limits, relaxed=True, time_limit=seconds, engine=self.engine)
        if result.status == "infeasible":
            raise Infeasible(infeasible.reasons(program, build.limits))
        solved = result.status == "optimal" and result.x is not None
        self.bound = upper_bound(program, result.value if solved else None)
        if result.x is not None and solved:
            self.relaxed = np.clip(result.x[program.cells : program.r], 0.0, 1.0)

    @property
    def over(self) -> bool:
        """Whether the time is up, or the answer good enough."""
        close = self.best is not None and self.bound - self.best.rank[0] <= 1e-9 * abs(self.bound)
        return close or self.engine.over

    @property
    def tried(self) -> int:
        """How many different sets of versions were tried."""
        return self.build.tried

    def start(self) -> None:
        """The greedy answers; what a search begins with and has to beat. Repaired where none answers everything."""
        self._greedy()
        if self.best is None:
            covered = self.offer(self.cover())
            if covered is None and self._covering is not None:
                self.best = self._covering
            free, self.build.base = self.build.base, self.cover()
            self._greedy()
            self.build.base = free

    def exchange(self, rng: np.random.Generator) -> None:
        """Where versions are selected and conflict, the best set of them that exchanges lead to."""
        problem, build = self.problem, self.build
        if self.best is None or problem.form != "select" or problem.pools or not len(problem.conflicts):
            return
        near = [np.unique(np.array(others, dtype=np.intp)) for others in build.near]
        free = runnable(problem) & ~required_of(problem)
        exchange = Exchange(build.alone, near, build.use, free, self.best.runs)
        end = monotonic() + _EXCHANGE * self.problem.time_limit
        self.offer(exchange.improved(rng, lambda: self.over or monotonic() > end))

    def _greedy(self) -> None:
        for price in _PRICES if self.build.scale else (0.0,):
            for cost in self.build.costs:
                self.offer(self.build.by_gain(price * self.build.scale, cost))
                if self.over:
                    return

    def seeds(self) -> Iterable[FloatArray]:
        """Keys of good answers: the best so far, the relaxed program's, the density's own order."""
        size = len(self.problem.versions)
        if self.best is not None:
            yield np.r_[0.01 + 0.98 * self.best.runs, 0.1]
        if self.relaxed is not None:
            yield np.r_[0.01 + 0.98 * self.relaxed, 0.1]
        yield np.full(size + 1, 0.5)

    def try_keys(self, keys: FloatArray) -> tuple[float, float]:
        """The rank of the allocation that the keys (versions + 1,) stand for."""
        order = np.argsort(-keys[:-1] * self.build.density, kind="stable")
        key = min(max(float(keys[-1]), 0.0), _HIGHEST)
        price = self.build.scale * key / (1.0 - key)
        found = self.offer(self.build.in_order(order, price))
        if found is None:
            free, self.build.base = self.build.base, self.cover()
            found = self.offer(self.build.in_order(order, price))
            self.build.base = free
        return found.rank if found is not None else (-np.inf, -np.inf)

    def offer(self, runs: Runs) -> Allocated | None:
        """Allocate among these versions, and keep the answer if it is the best."""
        found = self.build.allocated(runs)
        if found is not None and (self.best is None or found.rank > self.best.rank):
            self.best = self._polished(found)
        return found

    def _polished(self, found: Allocated) -> Allocated:
        """The best that the same versions can do: their replicas were sized for shares, one after the other."""
        if found.placement is None:
            return found
        better = best_among(self.problem, found.runs, _POLISH, engine=self.engine)
        return max(found, self._of(better), key=lambda item: item.rank) if better is not None else found

    def cover(self) -> Runs:
        """Versions that answer everything within the limits: the best answer's, else few. Infeasible where none can."""
        if self._cover is None and self.best is not None:
            self._cover = self.best.runs
        if self._cover is None:
            program = self.build.program
            columns = -program.use("versions")
            result = program.solve(columns, self.build.limits, gap=1.0, engine=self.engine)
            if result.status == "infeasible":
                raise Infeasible(infeasible.reasons(program, self.build.limits))
            if result.x is None:
                raise NoSolutionInTime(self.solver, self.problem.time_limit)
            self._cover = result.x[program.cells : program.r] > 0.5
            if self.problem.pools:
                shares = program.shares(result.x)
                found, over = place(self.problem, shares, self._cover, program.in_pools(result.x), engine=self.engine)
                settled = replaced(program, self.build.limits, found, engine=self.engine) if over.any() else found
                self._covering = None if settled is None else self._of(settled)
        return self._cover

    def answer(self) -> AllocationSolution:
        """The best allocation, with the bound. NoSolutionInTime where there is none."""
        best = self.best
        if best is None:
            raise NoSolutionInTime(self.solver, self.problem.time_limit)
        return answer(self.solver, self.problem, best.shares, best.runs, self.bound, best.placement)

    def _of(self, found: Placed) -> Allocated:
        return self.build.ranked(found.runs, found.shares, found.placement)


def searched(
    name: str, problem: AllocationProblem, improve: Callable[[Search, np.random.Generator], None] | None = None
) -> AllocationSolution:
    """What `improve` makes of the greedy answers; these themselves without it. Draws by `problem.seed`."""
    start = monotonic()
    found = without_limits(problem, name)
    if found is None:
        search = Search(name, problem)
        search.start()
        if improve is not None and not search.over:
            rng = np.random.default_rng(problem.seed)
            search.exchange(rng)
            improve(search, rng)
        found = search.answer()
    return replace(found, seconds=monotonic() - start)

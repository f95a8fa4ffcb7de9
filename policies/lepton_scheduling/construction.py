"""Allocations built version by version in an order, and what a search needs to choose the order."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import gt, sub

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    AllocationProblem,
    FloatArray,
    Placement,
    keeps,
    limits_of,
    required_of,
    runnable,
)
from lepton_scheduling import sizing
from lepton_scheduling.engine import Engine, by_scipy
from lepton_scheduling.outcome import objective_of, worth_of
from lepton_scheduling.program import Program
from lepton_scheduling.sharing import best_shares
from lepton_scheduling.subset import among, best_among

Runs = NDArray[np.bool_]
#: Beside one version's own use of what is limited: two that use nothing are told apart by their value.
_LITTLE = 1e-6
#: So few versions are allocated among exactly, with so many seconds.
_FEW, _SECONDS = 5, 0.1
#: Parts of all nodes that shares are made for: whole replicas take more than the shares' own part of them.
_FILLS = (1.2, 1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.15)


@dataclass(frozen=True, slots=True)
class Allocated:
    """Versions that run, their shares and replicas, which keep every limit; `rank` orders allocations."""

    runs: Runs
    shares: FloatArray
    rank: tuple[float, float]
    placement: Placement | None = None


@dataclass(slots=True)
class Construction:
    """Adds versions as long as they fit, conflict with none before them and, in `mixture`, improve a segment.

    `value`, `load` (segments, versions): the objective's part of a whole share (−∞: not allowed) and its cores of
    `cores`; with pools the nodes that its replicas fill, of all nodes. `use` (versions, limits) is each version's
    part of every other limit; `costs` are three readings of it: one each, the sum, the sum with the places that
    conflicts take; `density` (versions,) is the value for the last, in (0, 1]; `scale` the price of a core (a node)
    at which all that routing can win would pay for the budget.
    """

    problem: AllocationProblem
    engine: Engine = by_scipy
    program: Program = field(init=False)
    limits: dict[str, float] = field(init=False)
    base: Runs = field(init=False)
    value: FloatArray = field(init=False)
    load: FloatArray = field(init=False)
    cores: float | None = field(init=False)
    alone: FloatArray = field(init=False)
    use: FloatArray = field(init=False)
    costs: list[FloatArray] = field(init=False)
    density: FloatArray = field(init=False)
    scale: float = field(init=False)
    _floor: FloatArray = field(init=False)
    _uses: list[list[float]] = field(init=False)
    near: list[list[int]] = field(init=False)
    _seen: dict[bytes, Allocated | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        problem = self.problem
        self.program, self.limits = Program(problem), limits_of(problem)
        self.base = required_of(problem)
        worth = problem.traffic[:, None] * problem.weights[None, :] * problem.utility
        self.value = np.where(problem.allowed, worth, -np.inf)
        per_row = sizing.per_row(problem) if problem.pools else problem.cpu
        self.load = problem.demand * problem.traffic[:, None] * per_row[None, :]
        if problem.pools:
            self.value[:, np.isinf(per_row)] = -np.inf
            self.load[:, np.isinf(per_row)] = 0.0
        self._floor = np.where(problem.allowed, worth, np.inf).min(axis=1)
        self.cores = float(sum(pool.nodes for pool in problem.pools)) if problem.pools else self.limits.get("cpu")
        span = float((self.value.max(axis=1) - self._floor).sum())
        self.scale = span / self.cores if self.cores and np.isfinite(span) else 0.0
        of_shares = {"late"} if problem.pools else {"late", "cpu"}
        columns = [self._part(name, limit) for name, limit in self.limits.items() if name not in of_shares]
        columns += sizing.parts(problem)
        self.use = np.stack(columns, axis=1) if columns else np.zeros((len(problem.versions), 0))
        self._uses = self.use.tolist()
        if problem.form == "select":
            self.alone = problem.weights * (problem.traffic @ problem.utility)
        else:
            self.alone = np.where(problem.allowed, worth - self._floor[:, None], 0.0).sum(axis=0)
        self.near = [[] for _ in problem.versions]
        for first, second in problem.conflicts:
            self.near[first].append(second)
            self.near[second].append(first)
        used = _LITTLE + self.use.sum(axis=1)
        # A version takes the place of those that it conflicts with (as in greedy independent sets).
        apart = used + np.array([len(others) for others in self.near]) / len(self.near)
        self.costs = [np.ones(len(used)), used, *([apart] if len(problem.conflicts) else [])]
        density = np.maximum(self.alone, 0.0) / self.costs[-1]
        self.density = np.maximum(density / (density.max(initial=0.0) or 1.0), _LITTLE)

    def _part(self, resource: str, limit: float) -> FloatArray:
        use = sizing.least_use(self.problem, resource)
        return use / limit if limit else np.where(use > 0, np.inf, 0.0)

    def in_order(self, order: NDArray[np.intp], price: float) -> Runs:
        """Versions that run when they are added in this order, a core costing `price`."""
        mixture = self.problem.form == "mixture"
        runs, room, blocked, best = self._start(price)
        columns = (self.value - price * self.load).T
        left = room.tolist()
        # Plain lists: the loop asks for one value at a time.
        closed = bytearray((runs | blocked).tobytes())
        for i in order.tolist():
            if closed[i]:
                continue
            use = self._uses[i]
            if any(map(gt, use, left)):
                continue
            if mixture:
                if not (columns[i] > best).any():
                    continue
                best = np.maximum(best, columns[i])
            runs[i] = True
            left = list(map(sub, left, use))
            for other in self.near[i]:
                closed[other] = True
        return runs

    def by_gain(self, price: float, cost: FloatArray) -> Runs:
        """Versions that run when the one that gains most for its `cost` is added each time."""
        mixture = self.problem.form == "mixture"
        runs, room, blocked, best = self._start(price)
        worth = self.value - price * self.load
        # An uncovered segment counts as worse than anything: it is covered first.
        best = np.maximum(best, self._floor - price * self.load.max(axis=1) - 1.0)
        while True:
            gain = np.maximum(worth - best[:, None], 0.0).sum(axis=0) if mixture else self.alone
            fits = ~runs & ~blocked & (self.use <= room).all(axis=1) & (gain > 0)
            if not fits.any():
                return runs
            i = int(np.where(fits, gain / cost, -np.inf).argmax())
            runs[i] = True
            room = room - self.use[i]
            best = np.maximum(best, worth[:, i])
            blocked[self.near[i]] = True

    def _start(self, price: float) -> tuple[Runs, FloatArray, Runs, FloatArray]:
        runs = self.base.copy()
        room = 1.0 + 1e-12 - self.use[runs].sum(axis=0)
        blocked = ~runnable(self.problem)
        for i in np.flatnonzero(runs).tolist():
            blocked[self.near[i]] = True
        best = (self.value - price * self.load)[:, runs].max(axis=1, initial=-np.inf)
        return runs, room, blocked, best

    @property
    def tried(self) -> int:
        """How many different sets of versions were allocated among."""
        return len(self._seen)

    def allocated(self, runs: Runs) -> Allocated | None:
        """The best shares among these versions; None where they can't answer everything within the limits."""
        key = np.packbits(runs).tobytes()
        if key not in self._seen:
            self._seen[key] = self._allocate(runs)
        return self._seen[key]

    def _allocate(self, runs: Runs) -> Allocated | None:
        if self.problem.pools:
            return self._allocate_on_pools(runs)
        shares = self._shares(runs, self.cores)
        if shares is None:
            return None
        required = required_of(self.problem)
        parts = self.problem.traffic @ shares
        needy = runs & ~required & (parts < self.problem.min_share)
        if self.problem.form == "mixture":
            needy &= parts > 0
        if not needy.any():
            return self.ranked(runs, shares)
        # Either the others leave it enough, or it doesn't run.
        forced = self._forced(runs)
        if forced is not None and self.problem.form == "select":
            return forced
        without = runs.copy()
        without[np.flatnonzero(needy)[parts[needy].argmin()]] = False
        found = [item for item in (forced, self.allocated(without)) if item is not None]
        return max(found, key=lambda item: item.rank, default=None)

    def _shares(self, runs: Runs, cores: float | None) -> FloatArray | None:
        """The best shares among these versions, few enough of the answers late; None if there are none."""
        problem, most = self.problem, self.problem.most_late
        late = problem.traffic[:, None] * problem.late if most is not None else None
        return best_shares(self.value, self.load, runs, cores, late, most or 0.0)

    def _allocate_on_pools(self, runs: Runs) -> Allocated | None:
        """Shares for more and more, or fewer and fewer, nodes until their whole replicas find a place on them."""
        problem, best = self.problem, None
        required = required_of(problem)
        if runs.sum() <= _FEW:
            exact = best_among(problem, runs, _SECONDS, engine=self.engine)
            return None if exact is None else self.ranked(exact.runs, exact.shares, exact.placement)
        for fill in _FILLS:
            shares = self._spread(runs, fill) if problem.survive else self._shares(runs, (self.cores or 0.0) * fill)
            if shares is None:
                break
            running = runs
            if problem.form == "mixture":
                small = (problem.traffic @ shares < problem.min_share) & ~required & (shares > 0).any(axis=0)
                if small.any():
                    return self.allocated(runs & ~small)
                running = required | (shares > 0).any(axis=0)
            placement = sizing.sized(problem, shares, running, engine=self.engine)
            if placement is None or not keeps(problem, shares, running, placement):
                continue
            found = self.ranked(running, shares, placement)
            best = found if best is None or found.rank > best.rank else best
            if not problem.price and not problem.move:
                break
        return best

    def _spread(self, runs: Runs, fill: float) -> FloatArray | None:
        """Shares where a version has one replica a node at most: of the relaxed program on part of each node."""
        kept = np.flatnonzero(runs)
        smaller = among(self.problem, kept)
        program = Program(smaller, fill=np.full(len(smaller.pools), min(fill, 1.0)))
        found = program.solve(program.mixture(), self.limits, relaxed=True, engine=self.engine)
        if found.x is None:
            return None
        shares = np.zeros(self.value.shape)
        shares[:, kept] = program.shares(found.x)
        return shares

    def _forced(self, runs: Runs) -> Allocated | None:
        """The best shares that give each version its minimum: a linear program."""
        x = self.program.solve(self.program.mixture(), self.limits, runs=runs, engine=self.engine).x
        return None if x is None else self.ranked(runs, self.program.shares(x))

    def ranked(self, runs: Runs, shares: FloatArray, placement: Placement | None = None) -> Allocated:
        """An allocation with its rank."""
        if self.problem.form == "mixture":
            runs = required_of(self.problem) | (shares > 0).any(axis=0)
        rank = objective_of(self.problem, shares, runs, placement), worth_of(self.problem, shares)
        return Allocated(runs, shares, rank, placement)

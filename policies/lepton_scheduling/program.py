"""An allocation problem as a mixed-integer program: columns, rows and the way back.

Columns, in this order:

    share_is   one for each (segment, version) that is allowed          in [0, 1]
    xᵢ         whether the version runs                                  0 or 1
    r_ib       replicas of a version in a bin, where it can run there    0, 1, 2 …
    m_ip       replicas started on a pool that aren't in force there     ≥ 0, where starting has a price
    n_b        nodes used of a bin                                       0, 1, 2 …, where a node has a price

A bin is a pool as a whole (replicas are counted, packing them onto nodes comes after), or a single node
(`node_exact`: then no packing is left to do). The rows are those of `AllocationProblem`, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    RESOURCES,
    AllocationProblem,
    FloatArray,
    IntArray,
    least_replicas,
    lost_rate,
    replica_use,
    required_of,
    runnable,
)
from lepton_scheduling.cliques import cliques
from lepton_scheduling.engine import Engine, Model, Result, by_scipy

#: Below this a share is HiGHS' integrality tolerance (1e-6), not traffic.
_NOTHING = 2e-6
#: A replica that fills more than a half, a third, a quarter of a node: at most 1, 2, 3 of them fit on it.
_PARTS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows of the program, low ≤ matrix · columns ≤ high; the matrix as values at (row, column)."""

    name: str
    value: FloatArray
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    count: int
    low: FloatArray
    high: FloatArray


@dataclass(slots=True)
class Program:
    """Rows of limits are divided by the limit, so that bytes and cores are of the same size to the solver."""

    problem: AllocationProblem
    node_exact: bool = False
    fill: FloatArray | None = None
    """The part of each pool's nodes that is planned on, where the counts have to leave room to be packed."""
    segment: NDArray[np.intp] = field(init=False)
    """Of each share column."""
    version: NDArray[np.intp] = field(init=False)
    bin_pool: NDArray[np.intp] = field(init=False)
    """Each bin's pool."""
    bin_nodes: IntArray = field(init=False)
    """How many nodes a bin has."""
    r_version: NDArray[np.intp] = field(init=False)
    """Of each replica column."""
    r_bin: NDArray[np.intp] = field(init=False)
    m_version: NDArray[np.intp] = field(init=False)
    m_pool: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        self.segment, self.version = np.nonzero(problem.allowed)
        counts = np.array([pool.nodes for pool in problem.pools], dtype=np.int64)
        places = np.arange(len(counts))
        self.bin_pool = np.repeat(places, counts) if self.node_exact else places
        self.bin_nodes = np.ones(len(self.bin_pool), dtype=np.int64) if self.node_exact else counts
        can = placeable(problem)
        self.r_version, self.r_bin = np.nonzero(can[:, self.bin_pool])
        starts = can if problem.move and problem.in_force is not None else np.zeros((0, 0))
        self.m_version, self.m_pool = np.nonzero(starts)

    @property
    def cells(self) -> int:
        return len(self.segment)

    @property
    def r(self) -> int:
        """The first replica column."""
        return self.cells + len(self.problem.versions)

    @property
    def m(self) -> int:
        return self.r + len(self.r_version)

    @property
    def n(self) -> int:
        return self.m + len(self.m_version)

    @property
    def columns(self) -> int:
        return self.n + (len(self.bin_pool) if self._priced else 0)

    @property
    def _priced(self) -> bool:
        return self.problem.price > 0 and any(pool.price for pool in self.problem.pools)

    # --- what columns use and are worth ----------------------------------------------------------

    def use(self, resource: str) -> FloatArray:
        """What each column uses of a resource, of `versions` or of `late`, shape (columns,), in its own unit."""
        problem = self.problem
        use = np.zeros(self.columns)
        versions = slice(self.cells, self.r)
        if resource == "versions":
            use[versions] = 1.0
        elif resource == "late":
            use[: self.cells] = problem.traffic[self.segment] * problem.late[self.version]
        elif problem.pools:
            use[self.r : self.m] = replica_use(problem)[self.r_version, RESOURCES.index(resource)]
        elif resource == "cpu":
            use[: self.cells] = problem.demand * problem.traffic[self.segment] * problem.cpu[self.version]
        else:
            use[versions] = getattr(problem, resource)
        return use

    def mixture(self) -> FloatArray:
        """Each column's part in Σ_s traffic_s Σᵢ share_is·wᵢ·P_is, less each segment's lowest wᵢ·P_is, less costs.

        The constant changes no answer, but a relative gap then speaks of what routing can win, not of a
        sum that is mostly the same whatever is chosen.
        """
        problem = self.problem
        worth = problem.weights[None, :] * problem.utility
        floor = np.where(problem.allowed, worth, np.inf).min(axis=1)
        part = -self.costs()
        part[: self.cells] += problem.traffic[self.segment] * (worth[self.segment, self.version] - floor[self.segment])
        return part

    def select(self) -> FloatArray:
        """Each column's part in Σᵢ xᵢ·wᵢ·Pᵢ with Pᵢ = Σ_s traffic_s·P_is, less costs."""
        problem = self.problem
        part = -self.costs()
        part[self.cells : self.r] += problem.weights * (problem.traffic @ problem.utility)
        return part

    def costs(self) -> FloatArray:
        """price · price_p for a node that is used, move for a replica that is started."""
        problem = self.problem
        part = np.zeros(self.columns)
        part[self.m : self.n] = problem.move
        prices = np.array([pool.price for pool in problem.pools])
        if self._priced:
            part[self.n :] = problem.price * prices[self.bin_pool]
        return part

    # --- rows ------------------------------------------------------------------------------------

    def rows(self, limits: dict[str, float]) -> Iterator[Rows]:
        """All rows, by name: `segments`, `runs`, the limits, `conflicts`, `min_share`, and those of the pools."""
        problem, cells = self.problem, np.arange(self.cells)
        ones, segments = np.ones(self.cells), len(problem.segments)
        yield self._rows("segments", ones, self.segment, cells, segments, low=1.0, high=1.0)
        value, row = np.r_[ones, -ones], np.r_[cells, cells]
        yield self._rows("runs", value, row, np.r_[cells, self.cells + self.version], self.cells, high=0.0)
        for resource, limit in limits.items():
            yield self._limit(resource, self.use(resource), limit)
        yield from self._conflicts()
        yield from self._least_share()
        if problem.pools:
            yield from self._replicas()
            yield from self._nodes()
            yield from self._pool_budgets()
            yield from self._moves()

    def _rows(
        self,
        name: str,
        value: FloatArray,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        count: int,
        *,
        low: float | FloatArray = -np.inf,
        high: float | FloatArray = np.inf,
    ) -> Rows:
        sides = np.broadcast_to(low, (count,)), np.broadcast_to(high, (count,))
        return Rows(name, value, row, column, count, *sides)

    def _limit(self, name: str, use: FloatArray, limit: float) -> Rows:
        scale, column = limit or 1.0, np.flatnonzero(use)
        return self._rows(name, use[column] / scale, np.zeros_like(column), column, 1, high=limit / scale)

    def _conflicts(self) -> Iterator[Rows]:
        """Σ xᵢ ≤ 1 over each clique of conflicts."""
        found = cliques(self.problem.conflicts)
        if found:
            row = np.repeat(np.arange(len(found)), [len(clique) for clique in found])
            column = self.cells + np.array([version for clique in found for version in clique], dtype=np.intp)
            yield self._rows("conflicts", np.ones(len(row)), row, column, len(found), high=1.0)

    def _least_share(self) -> Iterator[Rows]:
        """Σ_s traffic_s·share_is − min_share·xᵢ ≥ 0 for each version that isn't required."""
        problem = self.problem
        versions = len(problem.versions)
        if problem.min_share:
            row = np.r_[self.version, np.arange(versions)]
            value = np.r_[problem.traffic[self.segment], np.full(versions, -problem.min_share)]
            free = ~required_of(problem)[row]
            yield self._rows("min_share", value[free], row[free], np.arange(self.r)[free], versions, low=0.0)

    def _replicas(self) -> Iterator[Rows]:
        """demandᵢ + lostᵢ·xᵢ ≤ Σ rate_ib·r_ib, each divided by i's highest rate;  Σ r_ib ≥ leastᵢ·xᵢ."""
        problem = self.problem
        versions = np.arange(len(problem.versions))
        scale = problem.rate.max(axis=1)
        scale = np.where(scale > 0, scale, 1.0)
        row = np.r_[self.version, versions, self.r_version]
        rate = problem.rate[self.r_version, self.bin_pool[self.r_bin]]
        demand = problem.demand * problem.traffic[self.segment]
        value = np.r_[demand, lost_rate(problem), -rate] / scale[row]
        columns = np.arange(self.m)
        yield self._rows("throughput", value, row, columns, len(versions), high=0.0)
        row = np.r_[versions, self.r_version]
        value = np.r_[-least_replicas(problem).astype(float), np.ones(len(self.r_version))]
        yield self._rows("replicas", value, row, columns[self.cells :], len(versions), low=0.0)

    def _nodes(self) -> Iterator[Rows]:
        """Σᵢ use_ik·r_ib ≤ capacity_k·(nodes of b), and how many large replicas whole nodes can hold.

        For the latter a part of a node counts by a dual feasible function, u(a) = ⌊(m+1)·a⌋/m for m = 1, 2, 3
        (Fekete & Schepers 2001, New classes of fast lower bounds for bin packing): no node holds more than u = 1.
        """
        use = replica_use(self.problem)
        for place in range(len(self.bin_pool)):
            pool = self.problem.pools[self.bin_pool[place]]
            mine = np.flatnonzero(self.r_bin == place)
            kept: list[FloatArray] = []
            for resource, capacity in enumerate(pool.capacity):
                part = use[self.r_version[mine], resource] / (capacity or 1.0)
                rounded = [] if self.node_exact else [_rounded(part, parts) for parts in _PARTS]
                for value in (part, *rounded):
                    if value.any() and not any((value <= other).all() for other in kept):
                        kept.append(value)
            for value in kept:
                yield self._of_nodes(f"pools.{pool.name}", value, mine, place)
            if self.problem.survive and self._priced:
                # One replica of a version a node: no fewer nodes than replicas of any one version.
                row, column = np.arange(len(mine)), np.r_[self.r + mine, np.full(len(mine), self.n + place)]
                value = np.r_[np.ones(len(mine)), -np.ones(len(mine))]
                yield self._rows(f"pools.{pool.name}", value, np.r_[row, row], column, len(mine), high=0.0)

    def _of_nodes(self, name: str, value: FloatArray, mine: NDArray[np.intp], place: int) -> Rows:
        column, value = self.r + mine[value != 0], value[value != 0]
        nodes = float(self.bin_nodes[place])
        if self.fill is not None:
            value = value / self.fill[self.bin_pool[place]]
        if self._priced:
            column, value, nodes = np.r_[column, self.n + place], np.r_[value, -1.0], 0.0
        return self._rows(name, value, np.zeros_like(column), column, 1, high=nodes)

    def _pool_budgets(self) -> Iterator[Rows]:
        for index, pool in enumerate(self.problem.pools):
            on_pool = np.zeros(self.columns)
            on_pool[self.r : self.m] = self.bin_pool[self.r_bin] == index
            for resource in RESOURCES:
                limit = getattr(pool.budget, resource)
                if limit is not None:
                    yield self._limit(f"pools.{pool.name}.budget.{resource}", on_pool * self.use(resource), limit)

    def _moves(self) -> Iterator[Rows]:
        """Σ_b r_ib − m_ip ≤ in_force_ip, b the bins of p."""
        if not len(self.m_version) or self.problem.in_force is None:
            return
        number = np.full(self.problem.rate.shape, -1)
        number[self.m_version, self.m_pool] = np.arange(len(self.m_version))
        row = np.r_[number[self.r_version, self.bin_pool[self.r_bin]], np.arange(len(self.m_version))]
        value = np.r_[np.ones(len(self.r_version)), -np.ones(len(self.m_version))]
        high = self.problem.in_force[self.m_version, self.m_pool].astype(float)
        yield self._rows("moves", value, row, np.arange(self.r, self.n), len(self.m_version), high=high)

    # --- bounds ----------------------------------------------------------------------------------

    def bounds(self, runs: NDArray[np.bool_] | None = None) -> tuple[FloatArray, FloatArray]:
        """The least and the greatest value of each column; `runs` fixes which versions run."""
        problem = self.problem
        lower, upper = np.zeros(self.columns), np.ones(self.columns)
        x = slice(self.cells, self.r)
        lower[x], upper[x] = (required_of(problem), runnable(problem)) if runs is None else (runs, runs)
        pool = self.bin_pool[self.r_bin]
        most = most_on_node(problem)[self.r_version, pool] * self.bin_nodes[self.r_bin]
        if problem.pools:
            rate, lost = problem.rate[self.r_version, pool], lost_rate(problem)[self.r_version]
            needed = np.ceil((problem.demand + lost) / rate) + least_replicas(problem)[self.r_version]
            upper[self.r : self.m] = np.where(runnable(problem)[self.r_version], np.minimum(most, needed), 0)
        upper[self.m : self.n] = np.inf
        if self._priced:
            upper[self.n :] = self.bin_nodes
        return lower, upper

    def whole(self) -> NDArray[np.bool_]:
        """Which columns must be whole numbers. m follows from r."""
        whole = np.zeros(self.columns, dtype=bool)
        whole[self.cells : self.m] = whole[self.n :] = True
        return whole

    # --- solving ---------------------------------------------------------------------------------

    def solve(
        self,
        worth: FloatArray,
        limits: dict[str, float],
        *,
        runs: NDArray[np.bool_] | None = None,
        replicas: IntArray | None = None,
        relaxed: bool = False,
        time_limit: float | None = None,
        gap: float = 0.0,
        engine: Engine = by_scipy,
        start: FloatArray | None = None,
    ) -> Result:
        """Maximise `worth` over the columns within `limits`.

        `runs` fixes which versions run and `replicas` (versions, pools) how many of each; `relaxed` lets them run in
        part, whose optimum is an upper bound.
        """
        model = self.model(worth, limits, runs=runs, replicas=replicas, relaxed=relaxed, start=start)
        return engine(model, time_limit, gap)

    def model(
        self,
        worth: FloatArray,
        limits: dict[str, float],
        *,
        runs: NDArray[np.bool_] | None = None,
        replicas: IntArray | None = None,
        relaxed: bool = False,
        start: FloatArray | None = None,
    ) -> Model:
        """All rows and bounds together; the arguments are those of `solve`."""
        from scipy.sparse import csc_array

        rows = list(self.rows(limits))
        lower, upper = self.bounds(runs)
        if replicas is not None:
            fixed = replicas[self.r_version, self.bin_pool[self.r_bin]]
            lower[self.r : self.m] = upper[self.r : self.m] = fixed
        low, high = (np.concatenate([getattr(row, side) for row in rows]) for side in ("low", "high"))
        whole = np.zeros(self.columns, dtype=bool) if relaxed else self.whole()
        first = np.cumsum([0, *(item.count for item in rows)])
        row = np.concatenate([item.row + offset for item, offset in zip(rows, first, strict=False)])
        value, column = (np.concatenate([getattr(item, part) for item in rows]) for part in ("value", "column"))
        matrix = csc_array((value, (row, column)), shape=(int(first[-1]), self.columns))
        return Model(worth, matrix, low, high, lower, upper, whole, start)

    def as_in_force(self) -> FloatArray | None:
        """A start: the replicas in force and no others; the rest is NaN, for whoever can fill it in."""
        held = self.problem.in_force
        if held is None or self.node_exact:
            return None
        start = np.full(self.columns, np.nan)
        start[self.cells : self.r] = held.any(axis=1)
        start[self.r : self.m] = held[self.r_version, self.r_bin]
        return start

    # --- the way back ----------------------------------------------------------------------------

    def shares(self, x: FloatArray) -> FloatArray:
        """The solution's shares (segments, versions), free of the solver's tolerances."""
        shares = np.zeros(self.problem.allowed.shape)
        shares[self.segment, self.version] = np.where(x[: self.cells] < _NOTHING, 0.0, x[: self.cells])
        total: FloatArray = shares / shares.sum(axis=1, keepdims=True)
        return total

    def in_bins(self, x: FloatArray) -> IntArray:
        """The solution's replicas (versions, bins)."""
        found = np.zeros((len(self.problem.versions), len(self.bin_pool)), dtype=np.int64)
        found[self.r_version, self.r_bin] = np.round(x[self.r : self.m]).astype(np.int64)
        return found

    def in_pools(self, x: FloatArray) -> IntArray:
        """The solution's replicas (versions, pools)."""
        held, pools = self.in_bins(x), range(len(self.problem.pools))
        if not self.node_exact:
            return held
        return np.stack([held[:, self.bin_pool == index].sum(axis=1) for index in pools], axis=1)


def most_on_node(problem: AllocationProblem) -> IntArray:
    """How many replicas of each version one node of each pool holds, shape (versions, pools)."""
    most = np.zeros((len(problem.versions), len(problem.pools)), dtype=np.int64)
    if not problem.pools:
        return most
    use = replica_use(problem)
    for index, pool in enumerate(problem.pools):
        capacity = np.array(pool.capacity)
        with np.errstate(divide="ignore", invalid="ignore"):
            fits = np.where(use > 0, np.floor(capacity * (1 + 1e-9) / use), np.inf).min(axis=1)
        limit = 1 if problem.survive else np.iinfo(np.int32).max
        most[:, index] = np.where(problem.rate[:, index] > 0, np.minimum(fits, limit), 0)
    return most


def placeable(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions one replica of which runs on which pool, shape (versions, pools)."""
    found: NDArray[np.bool_] = most_on_node(problem) > 0
    return found


def _rounded(part: FloatArray, parts: int) -> FloatArray:
    """⌊(m+1)·a⌋/m; a itself where (m+1)·a is whole."""
    scaled = (parts + 1) * part
    whole = np.abs(scaled - np.round(scaled)) < 1e-9
    rounded: FloatArray = np.where(whole, part, np.floor(scaled) / parts)
    return rounded

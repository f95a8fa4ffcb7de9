"""Which versions an optimum can hold: linear programs on few of them, and what each of the others could add.

Column generation with Lagrangian bounds (Lübbecke & Desrosiers 2005, Selected topics in column generation). Rows
that several versions share (segments, limits, conflicts, nodes) get prices λ ≥ 0 from a linear program on few
versions. At these prices a version i that runs adds at most, m its columns' worth less the priced rows, and for any
prices α of a row a second that it bears, β of a replica and μ of its minimum share,

    vᵢ = m_xᵢ + Σ_s max(0, m_is − demand_s·α + traffic_s·μ) + Σ_p max(0, α·rate_ip + β + m_ip) · most_ip
         − lostᵢ·α − leastᵢ·β − min_share·μ

which is least at the linear program's own α, β, μ, or with μ = 0, β = min_p (−m_ip − α·rate_ip) ≥ 0 at one of the α
where its slope changes. No allocation is worth more than  L = Σ λ·limit + Σ_required vᵢ + Σ_others max(0, vᵢ).
One that holds version j is worth at most L + vⱼ where vⱼ < 0: versions far below zero can be left out, and what that
may cost is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray, least_replicas, lost_rate, required_of
from lepton_scheduling.engine import Model
from lepton_scheduling.program import Program
from lepton_scheduling.rows import rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Fewer versions than this are all kept.
_FEW = 60
_ROUNDS = 12
#: Versions that come in in a round, at most.
_MORE = 60
#: Rows of one version only.
_OWN = frozenset(("runs", "throughput", "replicas", "min_share", "moves"))
#: Those that have a price of their own in vᵢ: α, β and μ.
_PRICED = ("throughput", "replicas", "min_share")


@dataclass(slots=True)
class Pricing:
    """`bound` is L, `adds` (versions,) the vᵢ at its prices; `x` the linear program's answer, all columns.

    `done`: no version is left that would add anything, L is the relaxed program's optimum.
    """

    program: Program
    limits: dict[str, float]
    worth: FloatArray
    model: Model = field(init=False)
    bound: float = field(init=False, default=np.inf)
    adds: FloatArray = field(init=False)
    x: FloatArray | None = field(init=False, default=None)
    done: bool = field(init=False, default=False)
    _version: NDArray[np.intp] = field(init=False)
    """Of each column; −1 for those of no version."""
    _shared: NDArray[np.bool_] = field(init=False)
    _rows: csr_array = field(init=False)
    _places: dict[str, slice] = field(init=False)
    """The rows of each of _PRICED, one a version."""

    def __post_init__(self) -> None:
        program = self.program
        self.model = program.model(self.worth, self.limits, relaxed=True)
        versions = np.arange(len(program.problem.versions))
        of_column = (program.version, versions, program.r_version, program.m_version)
        rest = np.full(program.columns - program.n, -1, dtype=np.intp)
        self._version = np.concatenate([*of_column, rest])
        groups = [(rows.name, rows.count) for rows in rows_of(program, self.limits)]
        self._shared = np.concatenate([np.full(count, name not in _OWN) for name, count in groups])
        first = np.cumsum([0, *(count for _, count in groups)])
        self._places = {
            name: slice(start, start + count)
            for (name, count), start in zip(groups, first.tolist(), strict=False)
            if name in _PRICED
        }
        self._rows = self.model.matrix.tocsr()[np.flatnonzero(self._shared)]
        self.adds = np.zeros(len(versions))
        self._price()

    def best(self, count: int) -> NDArray[np.intp]:
        """So many versions that add most, and the required ones."""
        chosen = required_of(self.program.problem).copy()
        chosen[np.argsort(-self.adds, kind="stable")[:count]] = True
        return np.flatnonzero(chosen)

    def reaching(self, worth: float) -> NDArray[np.intp]:
        """Versions with which an allocation may be worth more than this, and the required ones."""
        return np.flatnonzero((self.bound + self.adds > worth) | required_of(self.program.problem))

    def outside(self, kept: NDArray[np.intp]) -> float:
        """What no allocation with any other version than these is worth more than."""
        others = np.delete(self.adds, kept)
        return self.bound + float(others.max()) if len(others) else -np.inf

    def _price(self) -> None:
        """Prices by a linear program on some versions, until no other one would add anything."""
        kept = self._first()
        for _ in range(_ROUNDS):
            found = self._linear(kept)
            if found is None:
                self.bound, self.adds = np.inf, np.zeros(len(self.adds))
                return
            x, prices = found
            adds, bound = self._adds(prices, kept)
            # Any prices bound the optimum: the best so far stay.
            if bound < self.bound:
                self.bound, self.adds, self.x = bound, adds, x
            outside = np.setdiff1d(np.flatnonzero(adds > 1e-9 * max(abs(bound), 1e-9)), kept)
            if not len(outside):
                self.done = True
                return
            best = outside[np.argsort(-adds[outside], kind="stable")[:_MORE]]
            kept = np.union1d(kept, best)

    def _first(self) -> NDArray[np.intp]:
        """Good versions in each segment, at several prices of what a row takes; required ones, and those that are."""
        problem, program = self.program.problem, self.program
        if len(problem.versions) <= _FEW:
            return np.arange(len(problem.versions))
        worth = np.where(problem.allowed, problem.weights * problem.utility, -np.inf)
        load = 1.0 / np.maximum(problem.rate.max(axis=1), 1e-12) if problem.pools else problem.cpu
        size = problem.memory / (problem.memory.max() or 1.0) + load / (load.max() or 1.0)
        span = float(np.ptp(worth[problem.allowed]))
        chosen = required_of(problem).copy()
        for price in (0.0, 0.1, 0.3, 1.0):
            best = np.argsort(-(worth - price * span * size), axis=1, kind="stable")[:, :3]
            chosen[best.ravel()] = True
        each = self.worth[program.cells : program.r]
        chosen[np.argsort(-(each / (1e-3 + size)), kind="stable")[:_FEW]] = True
        if problem.in_force is not None:
            chosen |= problem.in_force.any(axis=1)
        return np.flatnonzero(chosen)

    def _linear(self, kept: NDArray[np.intp]) -> tuple[FloatArray, FloatArray] | None:
        """The relaxed program on some versions: x of all columns, prices ≥ 0 of all rows; None without an answer."""
        from scipy.optimize import linprog

        inside = np.zeros(len(self.adds) + 1, dtype=bool)
        inside[kept] = inside[-1] = True
        columns = np.flatnonzero(inside[self._version])
        part = self.model.matrix[:, columns]
        rows = np.flatnonzero((np.diff(part.tocsr().indptr) > 0) | self._shared)
        matrix = part.tocsr()[rows]
        low, high = self.model.low[rows], self.model.high[rows]
        equal, above, below = low == high, np.isfinite(high) & (low < high), np.isfinite(low) & (low < high)
        from scipy.sparse import vstack

        result = linprog(
            -self.worth[columns],
            A_ub=vstack([matrix[above], -matrix[below]], format="csc"),
            b_ub=np.r_[high[above], -low[below]],
            A_eq=matrix[equal],
            b_eq=high[equal],
            bounds=np.stack([self.model.lower[columns], self.model.upper[columns]], axis=1),
            method="highs",
            options={"presolve": False},
        )
        if result.status != 0:
            return None
        prices = np.zeros(len(low))
        prices[equal] = -result.eqlin.marginals
        prices[above] = -result.ineqlin.marginals[: int(above.sum())]
        prices[below] = -result.ineqlin.marginals[int(above.sum()) :]
        whole = np.zeros(self.model.matrix.shape[0])
        whole[rows] = prices
        x = np.zeros(self.model.matrix.shape[1])
        x[columns] = result.x
        return x, whole

    def _adds(self, prices: FloatArray, kept: NDArray[np.intp]) -> tuple[FloatArray, float]:
        """vᵢ at these prices of all rows, those of their own known for the versions `kept`; and L."""
        program, problem = self.program, self.program.problem
        shared = prices[self._shared]
        left = self.worth - self._rows.T @ shared
        cells = np.full(problem.allowed.shape, -np.inf)
        cells[program.segment, program.version] = left[: program.cells]
        adds = self._least(cells, left) if problem.pools else np.maximum(cells, 0.0).sum(axis=0)
        own = self._at_own_prices(cells, left, prices)
        adds[kept] = np.minimum(adds[kept], own[kept])
        adds = adds + left[program.cells : program.r]
        upper = self.model.upper[program.cells : program.r]
        adds = np.where(upper > 0, adds, -np.inf)
        required = required_of(problem)
        nodes = (
            np.maximum(left[program.n :], 0.0) @ self.model.upper[program.n :] if program.columns > program.n else 0.0
        )
        # A row's price is of its upper side; of shared ones only those have one that is finite.
        bound = float(shared @ self.model.high[self._shared])
        bound += float(adds[required].sum() + np.maximum(adds[~required], 0.0).sum() + nodes)
        return adds, bound

    def _least(self, cells: FloatArray, left: FloatArray) -> FloatArray:
        """vᵢ less m_xᵢ at the best α, shape (versions,); −∞ where a version runs nowhere."""
        program, problem = self.program, self.program.problem
        price = np.full(problem.rate.shape, np.inf)
        price[program.r_version, program.r_bin] = np.maximum(-left[program.r : program.m], 0.0)
        can = np.isfinite(price)
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(can, price / problem.rate, np.inf).min(axis=1)
            demand = problem.demand * problem.traffic
            bends = [np.zeros(len(most)), most, *np.where(demand[:, None] > 0, cells / demand[:, None], 0.0)]
            for p, q in combinations(range(len(problem.pools)), 2):
                bends.append((price[:, p] - price[:, q]) / (problem.rate[:, p] - problem.rate[:, q]))
        runs = np.isfinite(most)
        most = np.where(runs, most, 0.0)
        least = np.full(len(most), np.inf)
        for bend in bends:
            alpha = np.clip(np.where(np.isfinite(bend), bend, 0.0), 0.0, most)
            beta = np.where(can, price - alpha[:, None] * problem.rate, np.inf).min(axis=1, initial=np.inf)
            beta = np.where(runs, np.maximum(beta, 0.0), 0.0)
            value = np.maximum(cells - demand[:, None] * alpha, 0.0).sum(axis=0)
            least = np.minimum(least, value - lost_rate(problem) * alpha - least_replicas(problem) * beta)
        least[~runs] = -np.inf
        return least

    def _at_own_prices(self, cells: FloatArray, left: FloatArray, prices: FloatArray) -> FloatArray:
        """vᵢ less m_xᵢ at the linear program's α, β, μ, shape (versions,)."""
        program, problem = self.program, self.program.problem
        versions = np.zeros(len(problem.versions))
        alpha, beta, mu = (prices[self._places[name]] if name in self._places else versions for name in _PRICED)
        if problem.pools:
            alpha = alpha / np.where(problem.rate.max(axis=1) > 0, problem.rate.max(axis=1), 1.0)
        of_row = problem.traffic[:, None] * (mu - problem.demand * alpha)
        value: FloatArray = np.maximum(cells + of_row, 0.0).sum(axis=0) - problem.min_share * mu
        if problem.pools:
            i, p = program.r_version, program.bin_pool[program.r_bin]
            gain = np.maximum(alpha[i] * problem.rate[i, p] + beta[i] + left[program.r : program.m], 0.0)
            value += np.bincount(i, weights=gain * self.model.upper[program.r : program.m], minlength=len(value))
            value -= lost_rate(problem) * alpha + least_replicas(problem) * beta
        return value

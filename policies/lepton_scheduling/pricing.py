"""Which versions an optimum can hold: linear programs on few of them, and what each of the others could add.

Column generation with Lagrangian bounds (Lübbecke & Desrosiers 2005, Selected topics in column generation). Rows
that several versions share (segments, limits, conflicts, nodes) get prices λ ≥ 0 from a linear program on few
versions. At these prices a version i that runs adds at most, m its cells' and x's worth less the priced rows,

    vᵢ = m_xᵢ + Σ_s max(0, m_is − demand_s·κᵢ) − lostᵢ·κᵢ,    κᵢ = min_p (price of a replica on p) / rate_ip

and no allocation is worth more than  L = Σ λ·limit + Σ_required vᵢ + Σ_others max(0, vᵢ). One that holds version j is
worth at most L + vⱼ where vⱼ < 0: versions far below zero can be left out, and what that may cost is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray, least_replicas, lost_rate, required_of
from lepton_scheduling.engine import Model
from lepton_scheduling.program import Program

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Fewer versions than this are all kept.
_FEW = 60
_ROUNDS = 12
#: Versions that come in in a round, at most.
_MORE = 60
#: Rows of one version only.
_OWN = frozenset(("runs", "throughput", "replicas", "min_share", "moves"))


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

    def __post_init__(self) -> None:
        program = self.program
        self.model = program.model(self.worth, self.limits, relaxed=True)
        versions = np.arange(len(program.problem.versions))
        of_column = (program.version, versions, program.r_version, program.m_version)
        rest = np.full(program.columns - program.n, -1, dtype=np.intp)
        self._version = np.concatenate([*of_column, rest])
        self._shared = np.concatenate(
            [np.full(rows.count, rows.name not in _OWN) for rows in program.rows(self.limits)]
        )
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
            adds, bound = self._adds(prices)
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
        """The relaxed program on some versions: x of all columns, prices of the shared rows; None without an answer."""
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
        whole = np.zeros(self.model.matrix.shape[0])
        whole[rows] = prices
        x = np.zeros(self.model.matrix.shape[1])
        x[columns] = result.x
        return x, whole[self._shared]

    def _adds(self, prices: FloatArray) -> tuple[FloatArray, float]:
        """vᵢ at these prices, and L."""
        program, problem = self.program, self.program.problem
        versions = len(problem.versions)
        left = self.worth - self._rows.T @ prices
        cells = left[: program.cells]
        ran = np.bincount(program.version, weights=np.maximum(cells, 0.0), minlength=versions)
        if problem.pools:
            price = np.full(problem.rate.shape, np.inf)
            np.minimum.at(price, (program.r_version, program.bin_pool[program.r_bin]), -left[program.r : program.m])
            with np.errstate(divide="ignore", invalid="ignore"):
                a_row = np.where(problem.rate > 0, price / problem.rate, np.inf).min(axis=1)
            demand = problem.demand * problem.traffic[program.segment]
            dear = np.where(np.isfinite(a_row), a_row, 0.0)
            after = np.maximum(cells - demand * dear[program.version], 0.0)
            fluid = np.bincount(program.version, weights=after, minlength=versions) - lost_rate(problem) * dear
            cheapest = np.where(np.isfinite(price.min(axis=1)), price.min(axis=1), 0.0)
            ran = np.minimum(fluid, ran - least_replicas(problem) * cheapest)
            ran[~np.isfinite(a_row)] = -np.inf
        adds = left[program.cells : program.r] + ran
        upper = self.model.upper[program.cells : program.r]
        adds = np.where(upper > 0, adds, -np.inf)
        required = required_of(problem)
        nodes = (
            np.maximum(left[program.n :], 0.0) @ self.model.upper[program.n :] if program.columns > program.n else 0.0
        )
        high = self.model.high[self._shared]
        bound = float(prices @ high + adds[required].sum() + np.maximum(adds[~required], 0.0).sum() + nodes)
        return adds, bound

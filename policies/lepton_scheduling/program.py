"""An allocation problem as a mixed-integer program, and who solves it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray, IntArray, least_replicas, lost_rate, required_of, runnable
from lepton_scheduling.columns import Columns
from lepton_scheduling.engine import Engine, Model, Result, by_scipy
from lepton_scheduling.fit import most_on_node
from lepton_scheduling.rows import rows_of


@dataclass(slots=True)
class Program(Columns):
    """Maximises a worth of its columns within its rows and their bounds."""

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
        if self.priced:
            upper[self.n :] = self.bin_nodes
        return lower, upper

    def whole(self) -> NDArray[np.bool_]:
        """Which columns must be whole numbers. m follows from r."""
        whole = np.zeros(self.columns, dtype=bool)
        whole[self.cells : self.m] = whole[self.n :] = True
        return whole

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

        rows = list(rows_of(self, limits))
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

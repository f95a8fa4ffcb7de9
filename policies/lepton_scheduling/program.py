"""An allocation problem as a mixed-integer program: columns, rows and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import AllocationProblem, FloatArray, required_of, runnable
from lepton_scheduling.cliques import cliques

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult
    from scipy.sparse import csr_array

#: Below this a share is HiGHS' integrality tolerance (1e-6), not traffic.
_NOTHING = 2e-6


@dataclass(frozen=True, slots=True)
class Program:
    """Columns: one share for each allowed (segment, version), then one binary "runs" for each version.

    `segment` and `version` (cells,) say which cell a share column is. Rows of limits (the budgets, and the number
    of versions) are divided by the limit, so that bytes and cores are of the same size to the solver.
    """

    problem: AllocationProblem
    segment: NDArray[np.intp]
    version: NDArray[np.intp]

    @classmethod
    def of(cls, problem: AllocationProblem) -> Program:
        segment, version = np.nonzero(problem.allowed)
        return cls(problem, segment, version)

    @property
    def cells(self) -> int:
        return len(self.segment)

    @property
    def columns(self) -> int:
        return self.cells + len(self.problem.versions)

    def use(self, resource: str) -> FloatArray:
        """What each column uses of a resource or of `versions`, shape (columns,), in the resource's own unit."""
        problem = self.problem
        use = np.zeros(self.columns)
        if resource == "cpu":
            use[: self.cells] = problem.load * problem.traffic[self.segment] * problem.cpu[self.version]
        else:
            use[self.cells :] = 1.0 if resource == "versions" else getattr(problem, resource)
        return use

    def mixture(self) -> FloatArray:
        """Each column's part in Σ_s traffic_s Σᵢ share_is·wᵢ·P_is, less each segment's lowest wᵢ·P_is.

        The constant changes no answer, but a relative gap then speaks of what routing can win, not of a
        sum that is mostly the same whatever is chosen.
        """
        problem = self.problem
        worth = problem.weights[None, :] * problem.utility
        floor = np.where(problem.allowed, worth, np.inf).min(axis=1)
        part = np.zeros(self.columns)
        part[: self.cells] = problem.traffic[self.segment] * (worth[self.segment, self.version] - floor[self.segment])
        return part

    def select(self) -> FloatArray:
        """Each column's part in Σᵢ xᵢ·wᵢ·Pᵢ with Pᵢ = Σ_s traffic_s·P_is."""
        problem = self.problem
        part = np.zeros(self.columns)
        part[self.cells :] = problem.weights * (problem.traffic @ problem.utility)
        return part

    def solve(
        self,
        worth: FloatArray,
        limits: dict[str, float],
        *,
        runs: NDArray[np.bool_] | None = None,
        relaxed: bool = False,
        time_limit: float | None = None,
        gap: float = 0.0,
    ) -> OptimizeResult:
        """Maximise `worth` over the columns within `limits` by HiGHS.

        `runs` fixes which versions run; `relaxed` lets them run in part, whose optimum is an upper bound.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array, vstack

        versions = len(self.problem.versions)
        cells = np.arange(self.cells)
        ones = np.ones(self.cells)
        whole = csr_array((ones, (self.segment, cells)), shape=(len(self.problem.segments), self.columns))
        linked = csr_array(
            (np.r_[ones, -ones], (np.r_[cells, cells], np.r_[cells, self.cells + self.version])),
            shape=(self.cells, self.columns),
        )
        rows = [whole, linked]
        low = [np.ones(whole.shape[0]), np.full(self.cells, -np.inf)]
        high = [np.ones(whole.shape[0]), np.zeros(self.cells)]
        for resource, limit in limits.items():
            scale = limit or 1.0
            rows.append(csr_array(self.use(resource)[None, :] / scale))
            low.append(np.full(1, -np.inf))
            high.append(np.full(1, limit / scale))
        for matrix, least, most in (self._conflicts(), self._least()):
            rows.append(matrix)
            low.append(np.full(matrix.shape[0], least))
            high.append(np.full(matrix.shape[0], most))
        lower = np.zeros(self.columns)
        upper = np.ones(self.columns)
        lower[self.cells :] = required_of(self.problem)
        upper[self.cells :] = runnable(self.problem)
        if runs is not None:
            lower[self.cells :] = upper[self.cells :] = runs
        # Presolve takes longer here than it saves (1,000 versions: 3.2 s with it, 0.7 s without), and doesn't stop
        # when the time is up.
        options: dict[str, float] = {"mip_rel_gap": gap, "presolve": False}
        if time_limit is not None:
            options["time_limit"] = time_limit
        return milp(
            -worth,
            integrality=np.r_[np.zeros(self.cells), np.full(versions, 0 if relaxed else 1)],
            bounds=Bounds(lower, upper),
            constraints=LinearConstraint(vstack(rows, format="csc"), np.concatenate(low), np.concatenate(high)),
            options=options,
        )

    def _conflicts(self) -> tuple[csr_array, float, float]:
        """Σ xᵢ ≤ 1 over each clique of conflicts."""
        from scipy.sparse import csr_array

        found = cliques(self.problem.conflicts)
        row = np.repeat(np.arange(len(found)), [len(clique) for clique in found])
        column = self.cells + np.array([version for clique in found for version in clique], dtype=np.intp)
        return csr_array((np.ones(len(row)), (row, column)), shape=(len(found), self.columns)), -np.inf, 1.0

    def _least(self) -> tuple[csr_array, float, float]:
        """Σ_s traffic_s·share_is − min_share·xᵢ ≥ 0 for each version that isn't required."""
        from scipy.sparse import csr_array

        problem = self.problem
        versions = len(problem.versions)
        if not problem.min_share:
            return csr_array((0, self.columns)), 0.0, np.inf
        row = np.r_[self.version, np.arange(versions)]
        value = np.r_[problem.traffic[self.segment], np.full(versions, -problem.min_share)]
        matrix = csr_array((value, (row, np.arange(self.columns))), shape=(versions, self.columns))
        return matrix[np.flatnonzero(~required_of(problem))], 0.0, np.inf

    def shares(self, x: FloatArray) -> FloatArray:
        """The solution's shares (segments, versions), free of the solver's tolerances."""
        shares = np.zeros(self.problem.allowed.shape)
        shares[self.segment, self.version] = np.where(x[: self.cells] < _NOTHING, 0.0, x[: self.cells])
        total: FloatArray = shares / shares.sum(axis=1, keepdims=True)
        return total

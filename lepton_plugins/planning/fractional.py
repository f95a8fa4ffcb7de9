"""A mixture's metric that is a ratio of sums, such as F1: solved as a short row of problems whose metric is a mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from lepton_plugins.evaluation.ratio import Ratio
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, FloatArray

Solve = Callable[[AllocationProblem], AllocationSolution]
#: Dinkelbach's steps converge superlinearly: two or three are usual.
_STEPS = 10
#: The part of the time that is left that one step may take.
_PART = 0.5
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Fractional:
    """Maximise N / D − costs, N and D = Σ_s traffic_s Σᵢ share_is · n_is and d_is: F1 from the mixture's summed counts.

    For a number λ the mean λ + Σ_s traffic_s Σᵢ share_is · (n_is − λ·d_is) / D₀ is λ where N / D is; maximised with λ,
    D₀ those of the last answer until λ is its own answer's (Dinkelbach 1967, On nonlinear fractional programming).
    Any solver does that; an exact one finds the optimum, where nodes and moves have no price, and proves it. With
    prices D₀ decides how much F1 is worth beside them, and the last answer is as good as its neighbours.

    From a step's bound b follows one for N / D: with ρ = D₀ / min D it is λ + ρ·(b − λ), and with costs, which b is
    less by, b + (ρ − 1)·(the most that the mean is above λ). `under` is d_is, (segments, versions).
    """

    problem: AllocationProblem
    ratio: Ratio
    under: FloatArray

    def solve(self, solve: Solve) -> AllocationSolution:
        """The answer with N / D − costs as objective, and a bound of that."""
        start, problem = monotonic(), self.problem
        allowed, traffic = problem.allowed, problem.traffic
        over = self.ratio.over(problem.utility, self.under)
        least = float(traffic @ np.where(allowed, self.under, np.inf).min(axis=1))
        # n ≤ d in every row: no ratio is above 1.
        value, size, bound = self.ratio.value, self.ratio.size, 1.0
        best: AllocationSolution | None = None
        for _ in range(_STEPS):
            left = max(problem.time_limit - (monotonic() - start), 0.1 * problem.time_limit)
            mean = value + (over - value * self.under) / size
            found = solve(replace(problem, utility=mean, time_limit=_PART * left))
            costs = float(traffic @ (found.shares * mean).sum(axis=1)) - found.objective
            bound = min(bound, self._bound(found.bound, mean, value, size / least if least > 0 else np.inf))
            under = float(traffic @ (found.shares * self.under).sum(axis=1))
            # Where nothing is or is said to be positive F1 counts as 0, as in scikit-learn.
            now = float(traffic @ (found.shares * over).sum(axis=1)) / under if under > 0 else 0.0
            gained = np.inf if best is None else now - costs - best.objective
            if gained > 0:
                best = replace(found, objective=now - costs)
            late = monotonic() - start > problem.time_limit
            if gained <= _ROUNDING or abs(now - value) <= _ROUNDING or under <= 0 or late:
                break
            value, size = now, under
        assert best is not None
        bound = max(bound, best.objective)
        gap = (bound - best.objective) / abs(bound) if bound else 0.0
        close = gap <= max(problem.gap, _ROUNDING)
        return replace(
            best, bound=bound, gap=gap, status="optimal" if close else "feasible", seconds=monotonic() - start
        )

    def _bound(self, bound: float, mean: FloatArray, value: float, ratio: float) -> float:
        """No allocation's N / D − costs is more, by a bound of the mean − costs."""
        problem = self.problem
        if not problem.pools or not (problem.price or (problem.move and problem.in_force is not None)):
            return value + ratio * (bound - value) if bound > value else value
        most = float(problem.traffic @ np.where(problem.allowed, mean, -np.inf).max(axis=1)) - value
        return max(value, bound + (ratio - 1.0) * max(most, 0.0) if most > 0 else bound)

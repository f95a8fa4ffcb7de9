"""A linear program with whole columns, and who solves it: HiGHS through SciPy, or another engine of that form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csc_array


@dataclass(frozen=True, slots=True)
class Model:
    """Maximise worth · x where low ≤ matrix · x ≤ high and lower ≤ x ≤ upper; `whole` marks integer columns.

    `start` is an x to begin with, where the engine can.
    """

    worth: FloatArray
    matrix: csc_array
    low: FloatArray
    high: FloatArray
    lower: FloatArray
    upper: FloatArray
    whole: NDArray[np.bool_]
    start: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`x` is None where none was found, in time or at all; `bound` is no lower than the optimum."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    x: FloatArray | None
    value: float
    bound: float


#: A gap below this asks for a proof.
PROOF = 1e-4
#: The absolute gap at which HiGHS ends a search, whatever the relative one is.
_ABSOLUTE = 1e-6
#: (model, seconds or None, relative gap) → result.
Engine = Callable[[Model, float | None, float], Result]


@dataclass(slots=True)
class Timed:
    """An engine that is done by `due`, a reading of `monotonic`.

    By what a call oversteps its time, the next ones get less; where none is left they answer "unknown" at once.
    """

    engine: Engine
    due: float
    _late: float = 0.0

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(self.due - self._late - monotonic(), 0.0)

    @property
    def over(self) -> bool:
        return not self.left

    def __call__(self, model: Model, seconds: float | None, gap: float) -> Result:
        given = self.left if seconds is None else min(seconds, self.left)
        if not given:
            return Result("unknown", None, -np.inf, np.inf)
        start = monotonic()
        found = self.engine(model, given, gap)
        self._late = max(self._late, monotonic() - start - given)
        return found


def scale_of(worth: FloatArray, gap: float) -> float:
    """What worths are multiplied by, so that HiGHS' absolute gap is no more than the relative one of the largest."""
    most = float(np.abs(worth).max(initial=0.0))
    return max(1.0, _ABSOLUTE / (max(gap, _ABSOLUTE) * most)) if most else 1.0


def by_scipy(model: Model, seconds: float | None, gap: float) -> Result:
    """HiGHS through scipy.optimize.milp."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    # Presolve takes longer here than it saves (1,000 versions: 3.2 s with it, 0.7 s without), and doesn't stop
    # when the time is up.
    options: dict[str, float] = {"mip_rel_gap": gap, "presolve": False}
    if seconds is not None:
        options["time_limit"] = seconds
    scale = scale_of(model.worth, gap)
    found = milp(
        -scale * model.worth,
        integrality=model.whole,
        bounds=Bounds(model.lower, model.upper),
        constraints=LinearConstraint(model.matrix, model.low, model.high),
        options=options,
    )
    if found.x is None:
        return Result("infeasible" if found.status == 2 else "unknown", None, -np.inf, np.inf)
    value, dual = float(-found.fun) / scale, found.mip_dual_bound
    bound = value if dual is None else float(-dual) / scale
    return Result("optimal" if found.status == 0 else "feasible", found.x, value, bound)

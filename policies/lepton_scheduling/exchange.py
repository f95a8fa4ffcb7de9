"""Exchanges in a set of versions whose worth adds up: one comes in, those that it conflicts with go.

Iterated local search as for weighted independent sets (Nogueira, Pinheiro & Subramanian 2018, A hybrid iterated
local search heuristic for the maximum weight independent set problem), within limits, with a falling temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray

Runs = NDArray[np.bool_]
#: How much worse, as a part of the whole, a set may be that is gone on from: at the start, and at the end.
_WARM, _COLD = 1e-3, 1e-5
#: Steps for each version.
_STEPS = 15


@dataclass(slots=True)
class Exchange:
    """`worth` (versions,) adds up; `near` are each version's conflicts; `use` (versions, limits) may sum to one each.

    `free` are the versions that may come in and go.
    """

    worth: FloatArray
    near: list[NDArray[np.intp]]
    use: FloatArray
    free: Runs
    runs: Runs
    _against: FloatArray = field(init=False)
    """The worth of those running that each version conflicts with."""
    _used: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.runs = self.runs.copy()
        self._against = np.zeros(len(self.worth))
        for i in np.flatnonzero(self.runs).tolist():
            self._against[self.near[i]] += self.worth[i]
            # What must run is never conflicted with.
            if not self.free[i]:
                self._against[self.near[i]] = np.inf
        self._used = self.use[self.runs].sum(axis=0)

    @property
    def total(self) -> float:
        return float(self.worth @ self.runs)

    def improved(self, rng: np.random.Generator, over: Callable[[], bool]) -> Runs:
        """The best set found in a number of steps, or until `over`."""
        self._climb()
        best, most = self.runs.copy(), self.total
        here, worth = best, most
        candidates = np.flatnonzero(self.free & (self.worth > 0))
        steps = _STEPS * len(self.worth) if len(candidates) else 0
        for step in range(steps):
            if over():
                break
            for i in rng.choice(candidates, 1 + int(rng.random() < 0.3)).tolist():
                if not self.runs[i] and self._fits(i):
                    self._insert(i)
            self._climb()
            total = self.total
            warmth = most * _WARM * (_COLD / _WARM) ** (step / steps)
            if total >= worth or rng.random() < np.exp((total - worth) / warmth):
                here, worth = self.runs.copy(), total
            else:
                self._back_to(here)
            if worth > most + 1e-12:
                best, most = here, worth
        return best

    def _climb(self) -> None:
        """Exchanges that gain, the greatest gain first."""
        while True:
            gain = np.where(self.runs | ~self.free, -np.inf, self.worth - self._against)
            i = int(gain.argmax())
            if gain[i] <= 1e-12:
                return
            if not self._fits(i):
                fitting = [j for j in np.flatnonzero(gain > 1e-12).tolist() if self._fits(j)]
                if not fitting:
                    return
                i = max(fitting, key=lambda j: float(gain[j]))
            self._insert(i)

    def _fits(self, i: int) -> bool:
        if not np.isfinite(self._against[i]):
            return False
        leaving = self.near[i][self.runs[self.near[i]]]
        return bool((self._used + self.use[i] - self.use[leaving].sum(axis=0) <= 1 + 1e-12).all())

    def _insert(self, i: int) -> None:
        for j in self.near[i][self.runs[self.near[i]]].tolist():
            self._change(j, -1.0)
        self._change(i, 1.0)

    def _change(self, i: int, sign: float) -> None:
        self.runs[i] = sign > 0
        self._against[self.near[i]] += sign * self.worth[i]
        self._used = self._used + sign * self.use[i]

    def _back_to(self, runs: Runs) -> None:
        for i in np.flatnonzero(self.runs & ~runs).tolist():
            self._change(i, -1.0)
        for i in np.flatnonzero(runs & ~self.runs).tolist():
            self._change(i, 1.0)

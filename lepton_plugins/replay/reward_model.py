"""A linear model of an arm's rewards, and what it would be without one of its units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: How much coefficients are drawn to zero; the intercept isn't.
RIDGE = 1.0
#: Where a unit has all that is known of a coefficient, its residuals are rounding over rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Ridge regression on `features` (n, d), the first of which is 1; `units` (n,) are each row's unit."""

    weights: Floats
    _features: Floats
    _inverse: Floats
    _left_out: Floats

    @classmethod
    def fitted(cls, features: Floats, rewards: Floats, units: NDArray[np.intp]) -> RewardModel:
        penalty = RIDGE * np.eye(features.shape[1])
        penalty[0, 0] = 1e-9
        moments = features.T @ features + penalty
        inverse: Floats = np.asarray(np.linalg.inv(moments), dtype=np.float64)
        weights = inverse @ (features.T @ rewards)
        residuals = _left_out(features, rewards - features @ weights, units, moments, inverse)
        return cls(weights, features, inverse, residuals)

    def influence(self, direction: Floats) -> Floats:
        """What the rows (n,) that it was fitted on have in weights · `direction` (d,).

        Summed over a unit it is exactly what weights · direction would lose, were the model fitted without it.
        """
        return np.asarray(self._features @ (self._inverse @ direction) * self._left_out, dtype=np.float64)


def _left_out(features: Floats, residuals: Floats, units: NDArray[np.intp], moments: Floats, inverse: Floats) -> Floats:
    """(I - Hᵤ)⁻¹ eᵤ of each unit u, by the smaller of two systems: of its rows or of the features (Woodbury).

    Residuals as they'd be without the unit (CR3 of Bell, McCaffrey 2002): who decides a cell seems to fit too well.
    """
    order = np.argsort(units, kind="stable")
    first = np.flatnonzero(np.diff(units[order], prepend=-1))
    sizes = np.diff(first, append=len(units))
    found = np.empty(len(residuals))
    for size in np.unique(sizes).tolist():
        rows = order[first[sizes == size][:, None] + np.arange(size)]
        if size <= features.shape[1]:
            own, part = features[rows], residuals[rows][:, :, None]
            leverage = own @ inverse @ own.transpose(0, 2, 1)
            found[rows] = np.linalg.solve((1.0 + _ROUNDING) * np.eye(size) - leverage, part)[:, :, 0]
            continue
        for unit in rows:
            own, part = features[unit], residuals[unit]
            without = (1.0 + _ROUNDING) * moments - own.T @ own
            found[unit] = part + own @ np.linalg.solve(without, own.T @ part)
    return found

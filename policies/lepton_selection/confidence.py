"""How sure a version is of a row: the probability that its likeliest class is right, calibrated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Probabilities of 0 and 1 have no log odds.
_EDGE = 1e-6


class Calibration(NamedTuple):
    """Confidence = 1 / (1 + exp(-(slope · logit(p) + offset))), p the likeliest class's probability."""

    slope: float
    offset: float

    def confidence(self, proba: NDArray[np.float64]) -> Floats:
        """Shape (rows,), of probabilities (rows, classes); NaN where they are."""
        sure: Floats = 1.0 / (1.0 + np.exp(-(self.slope * _logit(proba) + self.offset)))
        return sure

    def bar(self, confidence: float) -> float:
        """The likeliest class's probability from which on the confidence is at least this."""
        if not 0 < confidence < 1:
            return math.copysign(math.inf, confidence - 0.5)
        wanted = math.log(confidence / (1 - confidence)) - self.offset
        if self.slope == 0:
            return math.copysign(math.inf, wanted)
        return 1 / (1 + math.exp(-max(min(wanted / self.slope, 700.0), -700.0))) - 1e-9


def calibrate(proba: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Platt scaling (1999) of the likeliest class's probability, with his targets that never reach 0 or 1.

    `proba` (rows, classes), `right` (rows,) whether the likeliest class was the true one. Newton's method; the slope
    is never negative, so that a version is not taken for surer where it gives a lower probability.
    """
    logit = _logit(proba)
    hits = int(right.sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    design = np.stack([logit, np.ones(len(logit))], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (mean - target)
        hessian = (design * (mean * (1 - mean))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-9:
            break
    if weights[0] < 0:
        rate = float(target.mean())
        weights = np.array([0.0, np.log(rate / (1 - rate))])
    return Calibration(*(float(f"{weight:.6g}") for weight in weights.tolist()))


def _logit(proba: Floats) -> Floats:
    top = np.clip(proba.max(axis=1).astype(np.float64), _EDGE, 1 - _EDGE)
    logit: Floats = np.log(top / (1 - top))
    return logit

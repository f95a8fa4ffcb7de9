"""What versions' scores mean: how often the rows come true that got them, by logistic recalibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Scores of exactly 0 or 1 have no logit.
_CLIP = 1e-4
_MOST_STEPS = 50


@dataclass(frozen=True, slots=True)
class Recalibration:
    """`logit P(true | score) = intercept + slope · logit(score)` of one version; (0, 1) is calibrated (Cox 1958).

    `influence` (units, 2) is what each unit adds to the estimate's error.
    """

    intercept: float
    slope: float
    influence: Floats

    def meaning(self, score: float) -> float:
        """How often a row with this score comes true."""
        return float(1 / (1 + np.exp(-(self.intercept + self.slope * logit(np.array(score))))))


@dataclass(frozen=True, slots=True)
class ScaleDifference:
    """How differently two versions' scores are to be read: `p_value` that it is chance, `size` in log odds."""

    p_value: float
    size: float


def logit(score: Floats) -> Floats:
    """Log odds; scores at the ends count as 0.0001 from them."""
    bounded = np.clip(score, _CLIP, 1 - _CLIP)
    odds: Floats = np.log(bounded / (1 - bounded))
    return odds


def recalibrate(
    score: Floats, hit: NDArray[np.bool_], weights: Floats, units: NDArray[np.intp], count: int
) -> Recalibration | None:
    """The recalibration of scores (n,) on rows weighted by (n,); None where the rows don't determine it.

    `units` (n,) number the rows' clusters, below `count`. Maximum likelihood by Newton's method; the influence
    is the sandwich's (Huber 1967), right where the curve isn't logistic too.
    """
    used = weights > 0
    if not used.any() or hit[used].all() or not hit[used].any() or np.ptp(score[used]) == 0:
        return None
    design = np.stack([np.ones(int(used.sum())), logit(score[used])], axis=1)
    true, weight = hit[used].astype(np.float64), weights[used]
    at = np.array([0.0, 1.0])
    for _ in range(_MOST_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ at, -30, 30)))
        information = (design * (weight * chance * (1 - chance))[:, None]).T @ design
        gradient = design.T @ (weight * (true - chance))
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return None
        at = at + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    else:
        return None  # The classes are separated, or nearly: no finite slope.
    rows = (design * (weight * (true - chance))[:, None]) @ np.linalg.inv(information)
    influence: Floats = np.stack(
        [np.bincount(units[used], weights=part, minlength=count) for part in rows.T], axis=1, dtype=np.float64
    )
    return Recalibration(float(at[0]), float(at[1]), influence)


def scale_difference(first: Recalibration, second: Recalibration, scores: Floats, weights: Floats) -> ScaleDifference:
    """Wald's test of equal intercepts and slopes, paired by unit, and the root mean square difference at `scores`."""
    from scipy.stats import chi2

    apart = np.array([second.intercept - first.intercept, second.slope - first.slope])
    influence = second.influence - first.influence
    units = int((influence != 0).any(axis=1).sum())
    covariance = influence.T @ influence * (units / max(units - 1, 1))
    try:
        wald = float(apart @ np.linalg.solve(covariance, apart))
    except np.linalg.LinAlgError:
        return ScaleDifference(1.0, 0.0)
    log_odds = apart[0] + apart[1] * logit(scores)
    return ScaleDifference(float(chi2.sf(max(wald, 0.0), 2)), float(np.sqrt(np.average(log_odds**2, weights=weights))))


def telling_score(found: Sequence[Recalibration], scores: Floats) -> float:
    """The round score among those that were given at which the versions differ most."""
    low, high = np.quantile(scores, [0.1, 0.9])
    shown = [score for score in np.round(np.linspace(low, high, 9), 2).tolist() if 0 < score < 1] or [float(high)]
    spread = [max(means) - min(means) for means in ([item.meaning(score) for item in found] for score in shown)]
    return float(shown[int(np.argmax(spread))])

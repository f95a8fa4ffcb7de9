"""What a policy would have earned, estimated from another one's decisions.

Direct method, inverse propensity scores (IPS), their self-normalised form (SNIPS) and the doubly robust estimator
(DR), after Dudík, Langford, Li 2011 and Swaminathan, Joachims 2015. Rewards of one unit depend on each other: each
interval is of the sums of whole units. Plain means (IPS) have evaluations' own, corrected for skewness and kurtosis.
Of the others the parts are as they would be with their unit left out, reward models fitted anew without it
(`reward_model`): the jackknife of Efron and Stein 1981, with Student's t of the freedom that a χ² as variable as the
sum of squares has (Satterthwaite 1946).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.intervals import skewed_t, t_quantile
from lepton_plugins.replay.reward_model import RewardModel

Floats = NDArray[np.float64]

#: Parts of the units, each predicted by a model of the others.
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Influence:
    """An estimate with the part that each row has in it: `value` is the mean of value + `rows` (n,).

    `shares` (n,) sum to one: the weights of a weighted mean, which is drawn to the units of great weight. `refitted`:
    a reward model's part is in the rows as if their unit had been left out of it.
    """

    value: float
    rows: Floats
    shares: Floats | None = None
    refitted: bool = False

    def __sub__(self, other: Influence) -> Influence:
        return Influence(self.value - other.value, self.rows - other.rows, None, self.refitted or other.refitted)

    def interval(self, units: NDArray[np.intp], level: float = 0.95) -> tuple[float, float]:
        """The estimate's interval; `units` (n,) are codes 0, 1, … of the unit of each row."""
        sums: Floats = np.bincount(units, weights=self.rows).astype(np.float64)
        count = len(sums)
        if self.shares is not None:
            # The mean without the unit is as much farther from it.
            sums = sums / (1.0 - np.minimum(np.bincount(units, weights=self.shares), 0.99))
        square = float(np.square(sums).sum())
        if count < 2:
            return -np.inf, np.inf
        if square == 0:
            return self.value, self.value
        fourth = float(np.power(sums, 4).sum())
        error = np.sqrt(square * count / (count - 1)) / len(self.rows)
        if self.shares is None and not self.refitted:
            standard = sums / np.sqrt(square / count)
            skewness, kurtosis = np.power(standard, 3).mean(), np.power(standard, 4).mean() - 3
            low, high = skewed_t(np.asarray(self.value), error, skewness, kurtosis, count, level)
            return float(low), float(high)
        # Alike up to sign, the squares vary by nothing but rounding.
        freedom = max(2 * square**2 / max(fourth - square**2 / count, 1e-12 * fourth), 1.0)
        half = float(t_quantile(level, min(freedom, count - 1))) * float(error)
        return self.value - half, self.value + half


def on_policy(rewards: Floats) -> Influence:
    """What was earned."""
    mean = float(rewards.mean())
    return Influence(mean, rewards - mean)


def ips(rewards: Floats, weights: Floats) -> Influence:
    """Rewards weighted by how much likelier the new policy would have chosen so: unbiased."""
    value = float((weights * rewards).mean())
    return Influence(value, weights * rewards - value)


def snips(rewards: Floats, weights: Floats) -> Influence:
    """IPS over the weights' own mean: a small bias, and no dependence on where rewards have their zero."""
    value = float((weights * rewards).sum() / weights.sum())
    return Influence(value, weights * (rewards - value) / float(weights.mean()), weights / weights.sum())


def direct(
    rewards: Floats, chosen: NDArray[np.intp], target: Floats, features: Floats, units: NDArray[np.intp]
) -> Influence:
    """The mean reward that a linear model of each arm's rewards predicts for the new policy.

    Its interval is that of the coefficients and of the traffic; what the model can't express is in neither: where
    the doubly robust estimate provably differs, go by that one.
    """
    value = np.zeros(len(rewards))
    correction = np.zeros(len(rewards))
    for arm in range(target.shape[1]):
        part = target[:, arm]
        if not part.any():
            continue
        here = chosen == arm
        model = RewardModel.fitted(features[here], rewards[here], units[here])
        value += part * (features @ model.weights)
        correction[here] = model.influence(part @ features)
    mean = float(value.mean())
    return Influence(mean, value - mean + correction, refitted=True)


def doubly_robust(
    rewards: Floats,
    chosen: NDArray[np.intp],
    weights: Floats,
    target: Floats,
    features: Floats,
    units: NDArray[np.intp],
    seed: int = 0,
) -> Influence:
    """The model's prediction, corrected by the weighted residuals of what was chosen.

    Unbiased whatever the model, which is fitted on other units than those it predicts.
    """
    rows, arms = target.shape
    fold = (np.random.default_rng(seed).permutation(int(units.max()) + 1) % FOLDS)[units]
    predicted = np.zeros((rows, arms))
    correction = np.zeros(rows)
    for arm in range(arms):
        if not target[:, arm].any() and not (chosen == arm).any():
            continue
        for number in range(FOLDS):
            here, others = fold == number, (fold != number) & (chosen == arm)
            if not others.any():
                continue  # No row of this arm elsewhere: the residuals alone speak.
            model = RewardModel.fitted(features[others], rewards[others], units[others])
            predicted[here, arm] = features[here] @ model.weights
            used = target[here, arm] - weights[here] * (chosen[here] == arm)
            correction[others] += model.influence(used @ features[here])
    value = (target * predicted).sum(axis=1) + weights * (rewards - predicted[np.arange(rows), chosen])
    mean = float(value.mean())
    return Influence(mean, value - mean + correction, refitted=True)


def effective_size(weights: Floats, units: NDArray[np.intp]) -> float:
    """How many units of equal weight would tell as much (Kish 1965): 0 where no weight is positive."""
    sums = np.bincount(units, weights=weights)
    square = float(np.square(sums).sum())
    return float(sums.sum()) ** 2 / square if square else 0.0


def expected_size(target: Floats, logged: Floats, units: NDArray[np.intp], draws: NDArray[np.uint64]) -> float:
    """`effective_size` as it is to be expected, whichever arms came up; `target` and `logged` are (rows, arms).

    Where heavy weights are rare, a log that hasn't seen them looks as if it told much: only this one knows. Rows of
    a unit with one draw have one weight, those with different draws independent ones.
    """
    squares = (np.square(target) / np.where(target > 0, logged, 1.0)).sum(axis=1)
    codes = np.unique(draws, return_inverse=True)[1].reshape(-1)
    groups = np.unique(units * (int(codes.max()) + 1) + codes, return_inverse=True)[1].reshape(-1)
    alike = np.bincount(groups).astype(np.float64)
    excess = (alike * np.bincount(groups, weights=squares) - alike**2).sum()
    return float(len(units) ** 2 / (excess + np.square(np.bincount(units).astype(np.float64)).sum()))

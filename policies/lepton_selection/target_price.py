"""The price of model time at which a predicted improvement keeps a quality, or a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_selection.bounds import lower_bounds

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]

#: Prices tried, from those that move hardly a row to those at which the cheapest version answers all.
_PRICES = np.r_[0.0, np.geomspace(1e-3, 30.0, 120)]


def relative_costs(paired: PairedPredictions, others: Sequence[int]) -> Floats | None:
    """By how much each version's model time is more than the default's, in parts of it; None where one is unknown."""
    costs = paired.costs
    if costs is None or not np.isfinite(costs[[paired.default, *others]]).all():
        return None
    whole = float(costs[paired.default])
    return np.array([(float(costs[i]) - whole) / whole for i in others])


def price_for(
    paired: PairedPredictions,
    others: Sequence[int],
    predicted: Floats,
    *,
    quality: float | None,
    budget: float | None,
    sure: float,
) -> float | None:
    """What the default's model time has to be worth, in the metric; None where nothing keeps the budget.

    `predicted` (rows, others) is each one's improvement over the default, by models that have not seen the row. The
    cheapest choice that keeps `quality` times the best version's utility, else the best; `budget` is a part of the
    dearest version's time. Kept: by the one-sided bound of the mean at `sure` (`bounds`). Where no price is shown to
    keep the quality, it is that of the best choice.
    """
    relative = relative_costs(paired, others)
    assert relative is not None
    assert paired.costs is not None
    own, rows = [paired.default, *others], np.arange(paired.rows)
    utility, costs = paired.utility[:, own], paired.costs[own]
    # All versions tell what is to be kept, also where a plan is made again without those that it doesn't need.
    best = paired.utility[:, int(paired.utility.mean(axis=0).argmax())]
    most = None if budget is None else budget * float(np.nanmax(paired.costs)) * (1 + 1e-9)
    spread = float(predicted.std()) / max(float(np.abs(relative).max()), 1e-9)
    tried: list[tuple[float, float, float, bool, bool]] = []
    for price in (_PRICES * spread).tolist():
        net = np.concatenate([np.zeros((paired.rows, 1)), predicted - price * relative], axis=1)
        choice = net.argmax(axis=1)
        useful, spent = utility[rows, choice], costs[choice]
        within = most is None or _shown(most - spent, paired, sure)
        kept = quality is None or _shown(useful - quality * best, paired, sure)
        tried.append((price, float(useful.mean()), float(spent.mean()), within, kept))
    allowed = [item for item in tried if item[3]]
    if not allowed:
        return None
    if quality is not None and any(item[4] for item in allowed):
        return min((item for item in allowed if item[4]), key=lambda item: (item[2], -item[1]))[0]
    return max(allowed, key=lambda item: (item[1], -item[2]))[0]


def _shown(over: Floats, paired: PairedPredictions, sure: float) -> bool:
    """Whether the mean of `over` (rows,) is shown to be at least zero."""
    return bool(lower_bounds(over[:, None], paired.groups, sure)[0] >= -1e-12)

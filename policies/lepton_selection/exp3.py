"""`exp3`: exponential weights of the losses, for rewards that follow no distribution at all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import BaseModel

from lepton_selection.bandit import BanditParams, Floats
from lepton_selection.counting import CountingBandit, Counts


class Exp3(CountingBandit):
    """EXP3 on losses, with the rate that needs no horizon: sqrt(ln K / (K t)) (Bubeck, Cesa-Bianchi 2012, §3.1).

    Losses are weighed by the propensities that were logged: rewards of any policy, or of held-out rows, count
    rightly.
    """

    Params: ClassVar[type[BaseModel]] = BanditParams

    def vector(self, counts: Counts) -> Floats:
        arms = len(counts.losses)
        rate = np.sqrt(np.log(arms) / (arms * max(float(counts.rewards.sum()), 1.0)))
        weights = np.exp(-rate * (counts.losses - counts.losses.min()))
        vector: Floats = weights / weights.sum()
        return vector

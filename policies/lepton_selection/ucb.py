"""`ucb`: the arm whose reward could be highest, by the upper confidence bound of its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from lepton_plugins.records.plan import PolicyDocument
from lepton_selection.bandit import BanditParams, Floats, greedy
from lepton_selection.counting import CountingBandit, Counts


class UcbParams(BanditParams):
    """Parameters of `ucb`."""

    width: Annotated[float, Field(gt=0, le=100, description="Factor of the bound's width; 1 is UCB1's.")] = 1.0


class Ucb(CountingBandit):
    """UCB1: mean + width · sqrt(2 ln N / n) (Auer, Cesa-Bianchi, Fischer 2002); arms without any reward come first."""

    Params: ClassVar[type[BaseModel]] = UcbParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        assert isinstance(self.params, UcbParams)
        self._factor = self.params.width

    def vector(self, counts: Counts) -> Floats:
        rounds = np.log(max(float(counts.rewards.sum()), 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = self._factor * np.sqrt(2.0 * rounds / counts.rewards)
        vector: Floats = greedy(np.where(counts.rewards > 0, counts.means + bound, np.inf)[None, :])[0]
        return vector

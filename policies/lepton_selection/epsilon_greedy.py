"""`epsilon_greedy`: the best mean so far, and now and then any arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from lepton_plugins.records.plan import PolicyDocument
from lepton_selection.bandit import BanditParams, Floats, greedy
from lepton_selection.counting import CountingBandit, Counts


class EpsilonGreedyParams(BanditParams):
    """Parameters of `epsilon_greedy`."""

    epsilon: Annotated[float, Field(ge=0, le=1, description="Part of the traffic drawn from all versions alike.")] = 0.1


class EpsilonGreedy(CountingBandit):
    """The best mean gets all but epsilon (Watkins 1989); arms that tie share it."""

    Params: ClassVar[type[BaseModel]] = EpsilonGreedyParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        assert isinstance(self.params, EpsilonGreedyParams)
        self._epsilon = self.params.epsilon

    def vector(self, counts: Counts) -> Floats:
        vector: Floats = (1.0 - self._epsilon) * greedy(counts.means[None, :])[0] + self._epsilon / len(self._live)
        return vector

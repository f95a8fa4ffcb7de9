"""`lints`: for each request each arm as often as it is probable to be the best, by a linear model of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch, Choice, RowChoice, invert
from lepton_selection.bandit import Floats, drawn
from lepton_selection.best_of import best_of
from lepton_selection.linear import LinearBandit, LinearParams

_REASON = "as often as it is probable to be the best"


class LinTsParams(LinearParams):
    """Parameters of `lints`."""

    spread: Annotated[
        float, Field(gt=0, le=100, description="Factor of the posterior's standard deviation: more tries more.")
    ] = 0.4


class LinTs(LinearBandit):
    """Thompson sampling (Agrawal, Goyal 2013) without drawing: the vector is P(best) in closed form (`best_of`).

    Optimistic: what is drawn for an arm counts only above its mean (May, Korda, Lee, Leslie 2012); an arm without
    evidence is expected to earn the middle of the rewards' range; and less than the posterior's standard deviation
    (half of it lost least for Chapelle and Li 2011): all for less regret.
    Arms are known as N(xᵀθ, σ² xᵀA⁻¹x), σ² estimated from the rewards of all arms (`LinearBandit._noise`):
    Student's t with 3 + rewards degrees of freedom, taken as the normal distribution of its variance.
    """

    Params: ClassVar[type[BaseModel]] = LinTsParams
    expected: ClassVar[float] = 0.5

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        assert isinstance(self.params, LinTsParams)
        self._spread = self.params.spread

    def _unsure(self, squares: Floats) -> Floats:
        return sqrt(self._noise()) * super()._unsure(squares)

    def _vectors(self, means: Floats, squares: Floats) -> Floats:
        return best_of(means, self._spread * self._unsure(squares), optimistic=True)

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        means, squares = self._moments_one(context)
        vector = self._whole(self._vectors(means[None, :], squares[None, :]))[0].tolist()
        return RowChoice(drawn(vector, draw), vector, _REASON, None)

    def choose(self, batch: Batch) -> Choice:
        means, squares = self._moments(self._encoded(batch.context, batch.rows))
        vectors = self._whole(self._vectors(means, squares))
        arms, cells = invert(vectors, batch.draws), np.arange(batch.rows)
        return Choice(arms, cells, vectors, [_REASON] * batch.rows, [None] * batch.rows)

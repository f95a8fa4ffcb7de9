"""`linucb`: for each request the arm whose reward could be highest, by a linear model of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch, Choice, RowChoice, invert
from lepton_selection.bandit import TIE, Floats, Wheel, greedy
from lepton_selection.linear import LinearBandit, LinearParams

#: Where the two best are nearer than this, single precision doesn't tell which is better.
_NEAR = 1e-3
_ROUNDING = 1e-12

_BEST, _FLOOR = "highest bound", "floor: another has the highest bound"


class LinUcbParams(LinearParams):
    """Parameters of `linucb`."""

    alpha: Annotated[float, Field(ge=0, le=100, description="Width of the bound; ½ bounds the noise of [0, 1].")] = 0.5


class LinUcb(LinearBandit):
    """xᵀθ + α sqrt(xᵀA⁻¹x), disjoint models (Li, Chu, Langford, Schapire 2010, algorithm 1); ties share."""

    Params: ClassVar[type[BaseModel]] = LinUcbParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        assert isinstance(self.params, LinUcbParams)
        self._alpha = self.params.alpha
        # Who has the highest bound alone has one of these vectors: nothing to be computed a row.
        self._alone = self._whole(np.eye(len(self._live)))
        self._wheels: list[Wheel | None] = [None] * len(self._live)

    def _bounds(self, means: NDArray[Any], squares: NDArray[Any]) -> NDArray[Any]:
        bounds: NDArray[Any] = np.sqrt(np.maximum(squares, 0.0))
        bounds *= self._alpha
        bounds += means
        return bounds

    def _vectors(self, means: Floats, squares: Floats) -> Floats:
        return greedy(self._bounds(means, squares))

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        means, squares = self._moments_one(context)
        alpha = self._alpha
        # Lists: for this few numbers Python is faster than numpy.
        pairs = zip(means.tolist(), squares.tolist(), strict=True)
        bounds = [mean + alpha * sqrt(square if square > 0.0 else 0.0) for mean, square in pairs]
        best = max(bounds)
        place = bounds.index(best)
        bounds[place] = -inf
        if max(bounds) >= best - TIE * (1.0 + abs(best)):
            bounds[place] = best
            return self._wheel_of(greedy(np.array([bounds]))[0]).draw(draw)
        wheel = self._wheels[place] or self._wheel_of(np.eye(len(self._live))[place])
        self._wheels[place] = wheel
        return wheel.draw(draw)

    def choose(self, batch: Batch) -> Choice:
        bounds = self._bounds(*self._moments(self._encoded(batch.context, batch.rows, np.float32))).T
        best = bounds.max(axis=0)
        near = bounds >= best - _NEAR * (1.0 + np.abs(best))
        numbers = np.arange(len(self._live))
        # Both sums over the arms by one product: who is near, where it is one, and how many are.
        found, count = np.array([numbers, np.ones_like(numbers)], dtype=np.float32) @ near
        cells = found.astype(np.intp)
        # Where another arm comes near, single precision doesn't tell who is best.
        unsure = np.flatnonzero(count > 1.5)
        vectors = self._alone
        if len(unsure):
            context = {name: column[unsure] for name, column in batch.context.items()}
            exact = greedy(self._bounds(*self._moments(self._encoded(context, len(unsure)))))
            cells[unsure] = exact.argmax(axis=1)
            ties = exact.max(axis=1) < 1.0
            if ties.any():
                own, inverse = np.unique(exact[ties], axis=0, return_inverse=True)
                vectors = np.vstack([vectors, self._whole(own)])
                cells[unsure[ties]] = len(self._live) + inverse.reshape(-1)
        return self._drawn(cells, vectors, batch.draws)

    def _drawn(self, cells: NDArray[np.intp], vectors: Floats, draws: NDArray[np.uint64]) -> Choice:
        """The arms at the draws: mostly those of the highest bound, which needs no look at the others."""
        cumulated = np.cumsum(vectors, axis=1)
        best = vectors.argmax(axis=1)
        numbers = np.arange(len(vectors))
        upper = cumulated[numbers, best] / cumulated[:, -1]
        lower = np.where(best > 0, cumulated[numbers, best - 1], 0.0) / cumulated[:, -1]
        fractions = (draws >> np.uint64(11)).astype(np.int64) * 2.0**-53  # A sixth of the time of draws / 2.0**64.
        arms = best[cells]
        others = np.flatnonzero((fractions < lower.max() + _ROUNDING) | (fractions > upper.min() - _ROUNDING))
        arms[others] = invert(vectors[cells[others]], draws[others])
        floor = vectors[cells[others], arms[others]] < vectors.max(axis=1)[cells[others]]
        count = len(vectors)
        cells[others[floor]] += count
        reasons = [_BEST] * count + [_FLOOR] * count
        return Choice(arms, cells, np.vstack([vectors, vectors]), reasons, [None] * (2 * count))

    def _wheel_of(self, vector: Floats) -> Wheel:
        whole = self._whole(vector[None, :])[0]
        return Wheel(whole.tolist(), [_BEST if share == whole.max() else _FLOOR for share in whole])

"""`linucb`: for each request the arm whose reward could be highest, by a linear model of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch, Choice, RowChoice, invert
from lepton_selection.bandit import Floats, Wheel, greedy
from lepton_selection.linear import LinearBandit, LinearParams

#: Where the two best are nearer than this, single precision doesn't tell which is better.
_NEAR = 1e-3

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
        np.sqrt(squares, out=squares)
        squares *= self._alpha
        squares += means
        bounds: list[float] = squares.tolist()
        best = max(bounds)
        near = best - 1e-9 * (1.0 + abs(best))
        place = bounds.index(best)
        for bound in bounds[:place] + bounds[place + 1 :]:
            if not bound < near:
                return self._wheel_of(greedy(np.array([bounds]))[0]).draw(draw)
        wheel = self._wheels[place] or self._wheel_of(np.eye(len(self._live))[place])
        self._wheels[place] = wheel
        return wheel.draw(draw)

    def choose(self, batch: Batch) -> Choice:
        x = self._encoded(batch.context, batch.rows)
        bounds = self._bounds(*self._moments(x, single=True))
        winners = bounds.argmax(axis=1)
        unsure = self._unsure(bounds, winners)
        vectors, cells = self._alone, winners.astype(np.intp)
        if len(unsure):
            exact = greedy(self._bounds(*self._moments(x[unsure])))
            own, inverse = np.unique(exact, axis=0, return_inverse=True)
            vectors = np.vstack([vectors, self._whole(own)])
            cells[unsure] = len(self._live) + inverse.reshape(-1)
        arms = invert(vectors[cells], batch.draws)
        # A cell's vector for whoever has the highest bound, and again for the others that the floor lets in.
        best = vectors.max(axis=1)
        floor = vectors[cells, arms] < best[cells]
        count = len(vectors)
        cells = np.where(floor, cells + count, cells)
        reasons = [_BEST] * count + [_FLOOR] * count
        return Choice(arms, cells, np.vstack([vectors, vectors]), reasons, [None] * (2 * count))

    def _unsure(self, bounds: NDArray[Any], winners: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows in which single precision leaves open who is best."""
        if bounds.shape[1] == 1:
            return np.zeros(0, dtype=np.intp)
        rows = np.arange(len(bounds))
        best = bounds[rows, winners]
        others = bounds.copy()
        others[rows, winners] = -np.inf
        return np.flatnonzero(~(others.max(axis=1) < best - _NEAR * (1.0 + np.abs(best))))

    def _wheel_of(self, vector: Floats) -> Wheel:
        whole = self._whole(vector[None, :])[0]
        return Wheel(whole.tolist(), [_BEST if share == whole.max() else _FLOOR for share in whole])

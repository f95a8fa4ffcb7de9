"""Bandits with context: the reward of each arm as a linear function of the encoded features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, BeforeValidator, Field

from lepton_plugins.errors import PolicyUnfit
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Candidate
from lepton_selection.bandit import Bandit, BanditParams, Floats
from lepton_selection.encoding import Encoder, declare_linear

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: The evidence before the first reward, in the deployment directory's policy/.
FILE = "start.f64"
#: Encoded features at most: each arm keeps their square.
_WIDEST = 512
#: Numbers that a product of all arms has at once, so that it stays in the processor's cache, and rows at least.
_CELLS, _LINE = 32_768, 48
#: After so many updates the inverses are made anew: rounding adds up.
_RENEW = 2000


def _listed(value: object) -> object:
    if isinstance(value, str):
        return {value: "auto"}
    return dict.fromkeys(value, "auto") if isinstance(value, list | tuple) else value


How = Annotated[str, Field(pattern=r"^(auto|standardised|one_hot|hashed(:[1-9][0-9]{0,2})?)$")]


class LinearParams(BanditParams):
    """Parameters of bandits with context."""

    features: Annotated[
        dict[str, How],
        BeforeValidator(_listed),
        Field(
            min_length=1,
            max_length=256,
            description="Context columns, or how each is encoded: auto, standardised, one_hot, hashed, hashed:64.",
        ),
    ]
    ridge: Annotated[float, Field(gt=0, le=1e6, description="Strength of the pull of all weights to zero.")] = 1.0


class LinearBandit(Bandit):
    """Ridge regression by arm: A = λI + Σ x xᵀ, b = Σ r x, θ = A⁻¹ b; x ends with a 1.

    Sums: x xᵀ, r x and r², flat; their r² tells the noise. One reward changes A⁻¹ by the formula of Sherman and
    Morrison (1950).
    `λI` and the evidence at the start stay outside of the sums.
    """

    #: What an arm without any evidence is expected to earn, on the scale of [0, 1].
    expected: ClassVar[float] = 0.0

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        content = document.document
        self._encoder = Encoder(content["encoding"])
        self._size = self._encoder.width + 1
        self.width = self._size * (self._size + 1) + 1
        super().__init__(document, files, arms, default)
        params = self.params
        assert isinstance(params, LinearParams)
        start = np.frombuffer(files[FILE], dtype="<f8").reshape(-1, self._size)
        order = [content["live"].index(self.arms[arm]) for arm in self._live] if content["live"] else [0]
        self._first = params.ridge * np.eye(self._size) + params.prior * start[: self._size]
        self._first_rewards = params.prior * start[self._size :][order]
        self._first_rewards[:, -1] += params.ridge * self.expected
        explained = np.linalg.solve(self._first, self._first_rewards.T).T
        self._first_squares = float((explained * self._first_rewards).sum())
        self._room = np.empty((self._size, self._size))
        self._updates = 0
        self._split: dict[np.dtype[Any], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {}
        self._variance: float | None = None
        self.restore(np.zeros((len(self.arms), self.width)))

    def _meaning(self) -> dict[str, Any]:
        return {"sums": "linear", "encoding": self.document.document["encoding"], **super()._meaning()}

    def _learned(self) -> Floats:
        with self._lock:
            return self._sums.copy()

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        assert isinstance(params, LinearParams)
        return tuple(params.features)

    @classmethod
    def _start(
        cls, params: BanditParams, paired: PairedPredictions, live: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The encoding, and the mean of x xᵀ and of u x by arm over the evidence, u the utility on [0, 1]."""
        assert isinstance(params, LinearParams)
        kind = cls.__name__.lower()
        encoding = declare_linear(kind, params.features, paired.columns, list(paired.columns))
        encoder = Encoder(encoding)
        if encoder.width > _WIDEST:
            raise PolicyUnfit(kind, f"features that are encoded in {encoder.width} numbers", f"at most {_WIDEST}")
        rows = paired.rows
        x = np.hstack([encoder.encode(paired.columns, rows, np.float64), np.ones((rows, 1))])
        utility = np.clip(paired.utility, 0.0, 1.0)
        arms = [list(paired.versions).index(arm) for arm in live]
        start = np.vstack([x.T @ x, (x.T @ utility[:, arms]).T]) / max(rows, 1)
        # Nine digits: machines whose sums round differently make the same plan.
        with np.errstate(divide="ignore"):
            digits = np.where(start != 0, 10.0 ** (8 - np.floor(np.log10(np.abs(start)))), 1.0)
        return {"encoding": encoding}, {FILE: (np.round(start * digits) / digits).astype("<f8").tobytes()}

    # --- learning --------------------------------------------------------------------------

    def contribution(self, context: Mapping[str, Any], reward: float, propensity: float) -> Floats:
        size = self._size
        x = self._encoder.encode_one(context)
        made = np.empty(self.width)
        # A product of matrices: half the time of an outer product.
        np.dot(x[:, None], x[None], out=made[: size * size].reshape(size, size))
        np.multiply(x, reward, out=made[size * size : -1])
        made[-1] = reward * reward
        return made

    def learn(self, arm: int, contribution: Floats, weight: float) -> None:
        size = self._size
        place = self._place[arm]
        # x ends with a 1: the last row of x xᵀ is x.
        x = contribution[size * (size - 1) : size * size]
        with self._lock:
            self._sums[arm] += contribution if weight == 1.0 else weight * contribution
            self._updates += 1
            self._split, self._variance = {}, None
            if self._updates >= _RENEW:
                self._renew()
                return
            inverse = self._inverses[place]
            step = inverse.dot(x)
            scale = weight / (1.0 + weight * step.dot(x))
            inverse -= np.dot(step[:, None], (step * scale)[None], out=self._room)
            rewards = self._rewards[place]
            rewards += weight * contribution[size * size : -1]
            inverse.dot(rewards, out=self._weights[place])

    def restore(self, sums: Floats) -> None:
        with self._lock:
            self._sums = sums.copy()
            self._renew()

    def _renew(self) -> None:
        """A⁻¹ and θ of all arms from the sums, one below the other in `_flat`: one product with x for a row."""
        size, arms = self._size, len(self._live)
        live = self._sums[self._live]
        moments = self._first + live[:, : size * size].reshape(-1, size, size)
        self._rewards = self._first_rewards + live[:, size * size : -1]
        flat = np.empty((arms * size + arms, size))
        self._inverses = flat[: arms * size].reshape(arms, size, size)
        self._weights = flat[arms * size :]
        self._inverses[:] = np.linalg.inv(moments)
        np.einsum("kij,kj->ki", self._inverses, self._rewards, out=self._weights)
        self._flat = flat
        self._split, self._variance = {}, None
        self._updates = 0

    # --- serving ---------------------------------------------------------------------------

    @abstractmethod
    def _vectors(self, means: Floats, squares: Floats) -> Floats:
        """Vectors (rows, live arms) by xᵀθ and xᵀA⁻¹x (rows, live arms), before the floor."""

    def _unsure(self, squares: Floats) -> Floats:
        """How unsure the predictions are, in standard deviations, by xᵀA⁻¹x."""
        return np.sqrt(np.maximum(squares, 0.0))

    def _noise(self) -> float:
        """The variance of rewards around the predictions, of all arms together.

        Its posterior mean under σ² ~ IG(3/2, 1/8), θ ~ N(A₀⁻¹b₀, σ²A₀⁻¹) (Gelman et al. 2013, chapter 14): as much
        as one reward of the greatest variance that [0, 1] allows is known before the first.
        """
        with self._lock:
            if self._variance is None:
                live, size = self._sums[self._live], self._size
                explained = float((self._weights * self._rewards).sum())
                residual = float(live[:, -1].sum()) + self._first_squares - explained
                self._variance = (0.25 + max(residual, 0.0)) / (1.0 + float(live[:, size * size - 1].sum()))
            return self._variance

    def _moments_one(self, context: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """xᵀθ and xᵀA⁻¹x (live arms,) of one row; rounding may leave the latter below zero."""
        x = self._encoder.encode_one(context)
        arms = len(self._live)
        with self._lock:
            found: Floats = self._flat.dot(x)
        return found[-arms:], found[:-arms].reshape(arms, -1).dot(x)

    def _encoded(
        self, context: Mapping[str, NDArray[Any]], rows: int, dtype: DTypeLike = np.float64
    ) -> NDArray[np.floating[Any]]:
        """x of each row, shape (rows, size), its columns contiguous."""
        x = np.zeros((self._size, rows), dtype=dtype)
        x[-1] = 1.0
        self._encoder.encode_into(context, x[:-1].T)
        return x.T

    def _moments(self, x: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """xᵀθ and xᵀA⁻¹x (rows, live arms) of rows (rows, size), in their precision."""
        weights, upper, lower = self._split_by(x.dtype)
        arms, half = len(weights), self._size - lower.shape[1]
        squares = np.empty((arms, len(x)), dtype=x.dtype)
        step = max(_CELLS // (len(upper) * _LINE), 1) * _LINE
        for start in range(0, len(x), step):
            first, last = x.T[:half, start : start + step], x.T[half:, start : start + step]
            part = squares[:, start : start + step]
            product = (upper @ x.T[:, start : start + step]).reshape(arms, half, -1)
            np.einsum("kdr,dr->kr", product, first, out=part)
            part += np.einsum("kdr,dr->kr", (lower @ last).reshape(arms, len(last), -1), last)
        return (weights @ x.T).T, squares.T

    def _split_by(self, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """θ (arms, size), and A⁻¹ as the three quarters that its symmetry leaves to be multiplied.

        With x in two parts xᵀA⁻¹x is x₁ᵀ(B₁₁x₁ + 2 B₁₂x₂) + x₂ᵀB₂₂x₂: the rows of (B₁₁, 2 B₁₂) of all arms below each
        other, and those of B₂₂.
        """
        with self._lock:
            found = self._split.get(dtype)
            if found is None:
                half = self._size // 2
                upper = self._inverses[:, :half].astype(dtype)
                upper[:, :, half:] *= 2.0
                lower = self._inverses[:, half:, half:].astype(dtype)
                found = (
                    self._weights.astype(dtype),
                    upper.reshape(-1, self._size),
                    lower.reshape(-1, self._size - half),
                )
                self._split[dtype] = found
            return found

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        means, squares = self._moments_one(context)
        vector = self._whole(self._vectors(means[None, :], squares[None, :]))[0].tolist()
        unsure = (self._range * self._unsure(squares)).tolist()
        with self._lock:
            rewards = self._sums[:, self._size**2 - 1].tolist()
        found = []
        for index, arm in enumerate(self.arms):
            place = self._place.get(index)
            if place is None:
                reason, score = "a shadow is never chosen", None
            else:
                score = self._low + self._range * float(means[place])
                learned = f"{rewards[index]:.4g} rewards" if rewards[index] else "no reward yet"
                reason = f"predicts {score:.4g}, {unsure[place]:.2g} unsure, {learned}"
            found.append(Candidate(version=arm, score=score, propensity=vector[index], reason=reason))
        return found

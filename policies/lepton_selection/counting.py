"""Bandits without context: one vector for all rows, from each arm's count and sums of rewards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch, Candidate, Choice, RowChoice
from lepton_selection.bandit import Bandit, BanditParams, Floats, Wheel

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


class Counts(NamedTuple):
    """What is known of the arms, the start included, shape (arms,) each; rewards on [0, 1].

    `losses` are Σ (1 - reward) / propensity: what the arm would have lost in all rounds, estimated without bias.
    """

    rewards: Floats
    total: Floats
    squares: Floats
    losses: Floats

    @property
    def means(self) -> Floats:
        """Mean rewards; 1 without any: what isn't known is tried."""
        return np.where(self.rewards > 0, self.total / np.maximum(self.rewards, 1e-12), 1.0)


class CountingBandit(Bandit):
    """Sums: count, Σ reward, Σ reward², Σ (1 - reward) / propensity; policies define `vector`."""

    width = 4

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        assert isinstance(self.params, BanditParams)
        start = np.array([document.document["start"][self.arms[arm]] for arm in self._live])
        weight = self.params.prior
        self._start_sums = weight * np.stack([np.ones(len(start)), start, start**2, 1.0 - start], axis=1)
        self._sums = np.zeros((len(self.arms), self.width))
        self._wheel: Wheel | None = None

    @abstractmethod
    def vector(self, counts: Counts) -> Floats:
        """The propensities (arms,) by what is known, before the floor."""

    def _meaning(self) -> dict[str, Any]:
        return {"sums": "counts", **super()._meaning()}

    def _learned(self) -> Floats:
        with self._lock:
            return self._sums.copy()

    @classmethod
    def _start(
        cls, params: BanditParams, paired: PairedPredictions, live: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        means = np.clip(paired.utility, 0.0, 1.0).mean(axis=0) if paired.rows else np.full(len(paired.versions), 0.5)
        known = dict(zip(paired.versions, means.tolist(), strict=True))
        return {"start": {arm: float(f"{known[arm]:.9g}") for arm in live}}, {}

    # --- learning --------------------------------------------------------------------------

    def contribution(self, context: Mapping[str, Any], reward: float, propensity: float) -> Floats:
        return np.array([1.0, reward, reward * reward, (1.0 - reward) / propensity])

    def learn(self, arm: int, contribution: Floats, weight: float) -> None:
        with self._lock:
            self._sums[arm] += weight * contribution
            self._wheel = None

    def restore(self, sums: Floats) -> None:
        with self._lock:
            self._sums = sums.copy()
            self._wheel = None

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        wheel = self._wheel or self._turned()
        vectors = np.asarray([wheel.vector])
        arms = wheel.many(batch.draws)
        # One cell an arm: they share the vector and differ in the reason.
        shared = np.broadcast_to(vectors, (len(self.arms), len(self.arms)))
        return Choice(arms, arms, shared, [row.reason for row in wheel.rows], [None] * len(self.arms))

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return (self._wheel or self._turned()).draw(draw)

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        wheel = self._wheel or self._turned()
        counts = self._counts()
        means = dict(zip(self._live, counts.means.tolist(), strict=True))
        return [
            Candidate(
                version=arm,
                score=None if index not in means else self._low + self._range * means[index],
                propensity=wheel.vector[index],
                reason=wheel.rows[index].reason if index in means else "a shadow is never chosen",
            )
            for index, arm in enumerate(self.arms)
        ]

    def _counts(self) -> Counts:
        with self._lock:
            return Counts(*(self._start_sums + self._sums[self._live]).T)

    def _turned(self) -> Wheel:
        """The vector of what is known now."""
        with self._lock:
            counts = self._counts()
            vector = self._whole(self.vector(counts)[None, :])[0]
            reasons = ["a shadow is never chosen"] * len(self.arms)
            rewards, means = self._sums[:, 0].tolist(), (self._low + self._range * counts.means).tolist()
            for place, arm in enumerate(self._live):
                learned = f"{rewards[arm]:.4g} rewards" if rewards[arm] else "no reward yet"
                reasons[arm] = f"{100 * vector[arm]:.3g} %: mean {means[place]:.4g}, {learned}"
            self._wheel = wheel = Wheel(vector.tolist(), reasons)
            return wheel

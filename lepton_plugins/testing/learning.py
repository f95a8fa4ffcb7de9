"""The contract of policies that learn."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.learning import LearningPolicy
from lepton_plugins.routing.policy import Batch
from lepton_plugins.testing.contract import require
from lepton_plugins.testing.evidence import rows_of
from lepton_plugins.testing.policy import PolicyContract

_ROUNDS = 600


class LearningContract(PolicyContract):
    """What every policy that learns keeps, beside what every policy keeps. Rewards are given on [0, 1]."""

    policy: ClassVar[type[LearningPolicy]]

    def test_what_pays_is_chosen_more(self) -> None:
        policy = self._fresh()
        before = self._mean_vector(policy)
        self._train(policy, paying=len(self.versions) - 1)
        after = self._mean_vector(policy)
        require(
            after[-1] > before[-1] and after[-1] == after.max(),
            f"after {_ROUNDS} rewards to the last version alone its propensity went from {before[-1]:.3f} to "
            f"{after[-1]:.3f}, others have up to {after[:-1].max():.3f}",
        )

    def test_rows_equal_batches_after_learning(self) -> None:
        policy = self._fresh()
        self._train(policy, paying=0)
        self._compare_with_rows(policy, self._batch())

    def test_sums_add_up_in_any_order(self) -> None:
        events = self._events(60)
        whole = self._sums(self._fresh(), events)
        parts = [self._sums(self._fresh(), events[start::3]) for start in range(3)]
        for order in itertools.permutations(parts):
            require(
                np.allclose(sum(order), whole, rtol=1e-9, atol=1e-9),
                "the sums of three replicas don't add up to those of one that had all rewards",
            )

    def test_learning_one_by_one_is_learning_from_the_sums(self) -> None:
        events = self._events(200)
        one_by_one, at_once = self._fresh(), self._fresh()
        for arm, context, reward, propensity in events:
            one_by_one.learn(arm, one_by_one.contribution(context, reward, propensity), 1.0)
        at_once.restore(self._sums(self._fresh(), events))
        batch = self._batch()
        require(
            np.allclose(one_by_one.choose(batch).propensities, at_once.choose(batch).propensities, atol=1e-6),
            "learn(), reward by reward, gives other propensities than restore() with the same rewards' sums",
        )

    def test_it_pickles_with_what_it_learned(self) -> None:
        policy = self._fresh()
        self._train(policy, paying=1)
        copy = pickle.loads(pickle.dumps(policy))
        batch = self._batch()
        require(
            np.allclose(copy.choose(batch).propensities, policy.choose(batch).propensities, atol=1e-6),
            "its pickled copy has forgotten what was learned",
        )

    def test_its_sums_have_a_name(self) -> None:
        policy = self._fresh()
        require(
            isinstance(policy.spec, str) and policy.spec, f"found spec {policy.spec!r}, expected a name of the sums"
        )
        require(policy.spec == self._fresh().spec, "the same policy, loaded twice, names its sums differently")
        context = self._events(1)[0][1]
        shape = policy.contribution(context, 1.0, 0.5).shape
        require(shape == (policy.width,), f"a contribution has the shape {shape}, expected ({policy.width},)")

    # --- inside ----------------------------------------------------------------------------

    def _fresh(self) -> LearningPolicy:
        policy = self._load(*self.compiled())
        assert isinstance(policy, LearningPolicy)
        return policy

    def _events(self, count: int) -> list[tuple[int, Mapping[str, Any], float, float]]:
        rng = np.random.default_rng(3)
        rows = rows_of(self.columns, count, seed=4)
        contexts = [{name: _plain(column[row]) for name, column in rows.items()} for row in range(count)]
        return [
            (int(rng.integers(len(self.versions))), context, float(rng.integers(5)) / 4, float(rng.uniform(0.1, 1)))
            for context in contexts
        ]

    def _sums(self, policy: LearningPolicy, events: Sequence[Any]) -> NDArray[np.float64]:
        sums = np.zeros((len(self.versions), policy.width))
        for arm, context, reward, propensity in events:
            sums[arm] += policy.contribution(context, reward, propensity)
        return sums

    def _train(self, policy: LearningPolicy, paying: int) -> None:
        rng = np.random.default_rng(5)
        for _, context, _, _ in self._events(_ROUNDS):
            row = policy.choose_one(context, int(rng.integers(0, 2**64, dtype=np.uint64)))
            reward = 0.9 if row.arm == paying else 0.1
            policy.learn(row.arm, policy.contribution(context, reward, row.vector[row.arm]), 1.0)

    def _mean_vector(self, policy: LearningPolicy) -> NDArray[np.float64]:
        batch: Batch = self._batch()
        means: NDArray[np.float64] = policy.choose(batch).propensities.mean(axis=0)
        return means


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

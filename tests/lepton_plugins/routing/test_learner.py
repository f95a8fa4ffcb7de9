"""Replicas that share what they learn: sums that add up in any order, also when the store is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.errors import StateAway
from lepton_plugins.routing.learner import Learner
from lepton_plugins.routing.learning_state import ERA, Flush, MemoryStateStore, Sums
from lepton_selection.epsilon_greedy import EpsilonGreedy

from .conftest import bandit


class Away(MemoryStateStore):
    """A store that can be away, and that can lose its answer after it has added."""

    def __init__(self) -> None:
        super().__init__()
        self.away = self.lose = False

    def exchange(self, model: str, keys: Sequence[str], flush: Flush | None) -> dict[str, Sums]:
        if self.away:
            raise StateAway("memory", "it is away")
        found = super().exchange(model, keys, flush)
        if self.lose:
            raise StateAway("memory", "no answer")
        return found


def learner(store: Any, **params: Any) -> Learner:
    policy = EpsilonGreedy(bandit(**params), {}, ["1", "2", "3"], 0)
    return Learner(policy, store, "m", ["1", "2", "3"], interval=3600)


def sums(store: MemoryStateStore) -> dict[str, list[float]]:
    return {key: value.values.tolist() for key, value in store._sums["m"].items()}


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["learn", "exchange"])
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(EVENTS, st.lists(st.sampled_from(["ok", "away", "lose"]), max_size=40))
def test_two_replicas_end_with_the_sums_of_one(events: list[Any], weather: list[str]) -> None:
    """Whatever order they exchange in, and however often the store is away or its answer lost."""
    alone, shared = MemoryStateStore(), Away()
    one = learner(alone)
    replicas = [learner(shared), learner(shared)]
    conditions = iter(weather)
    for replica, arm, reward, what in events:
        if what == "learn":
            one.learn(arm, {}, reward, 0.5, 0.0)
            replicas[replica].learn(arm, {}, reward, 0.5, 0.0)
        else:
            condition = next(conditions, "ok")
            shared.away, shared.lose = condition == "away", condition == "lose"
            replicas[replica].exchange()
    shared.away = shared.lose = False
    one.exchange()
    for replica in (*replicas, *replicas):
        replica.exchange()
    assert sums(shared) == sums(alone)
    for replica in replicas:
        assert np.array_equal(replica.policy._learned(), one.policy._learned())


def test_while_the_store_is_away_decisions_follow_what_is_learned_here() -> None:
    store = Away()
    one = learner(store, prior=0, epsilon=0)
    one.exchange()
    store.away = True
    for _ in range(5):
        one.learn(0, {}, 0.0, 0.5, 0.0)
        one.learn(1, {}, 1.0, 0.5, 0.0)
        one.learn(2, {}, 0.0, 0.5, 0.0)
        assert not one.exchange()
    assert one.policy.choose_one({}, 2**63).arm == 1
    store.away = False
    assert one.exchange()
    assert store._sums["m"]["2"].values[0] == 5


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=8), st.randoms())
def test_merging_is_order_free_across_eras(parts: list[tuple[int, float]], shuffler: Any) -> None:
    def total(order: list[tuple[int, float]]) -> Sums:
        found = Sums(order[0][0], np.array([order[0][1]]))
        for era, value in order[1:]:
            found = found.plus(Sums(era, np.array([value])))
        return found

    shuffled = list(parts)
    shuffler.shuffle(shuffled)
    one, other = total(parts), total(shuffled)
    assert one.era == other.era == max(era for era, _ in parts)
    assert one.values == pytest.approx(other.values, rel=1e-12, abs=1e-12)


def test_rewards_fade_by_the_half_life() -> None:
    now = [1_700_000_000.0]
    store = MemoryStateStore()
    policy = EpsilonGreedy(bandit(half_life="1h", prior=0), {}, ["1", "2", "3"], 0)
    one = Learner(policy, store, "m", ["1", "2", "3"], interval=3600, clock=lambda: now[0])
    one.exchange()
    one.learn(0, {}, 1.0, 0.5, now[0])
    one.exchange()
    assert policy._learned()[0, 0] == pytest.approx(1)
    now[0] += 3600
    one.exchange()
    assert policy._learned()[0, 0] == pytest.approx(0.5)
    one.learn(0, {}, 1.0, 0.5, now[0] - 3600)  # Late: as old as its decision.
    assert policy._learned()[0, 0] == pytest.approx(1)
    now[0] += 3600 * (ERA + 3)  # Into the next era, where all of that is nothing.
    one.learn(1, {}, 1.0, 0.5, now[0])
    one.exchange()
    assert policy._learned()[:2, 0] == pytest.approx([0, 1])
    late = Learner(
        EpsilonGreedy(bandit(half_life="1h", prior=0), {}, ["1", "2", "3"], 0),
        store,
        "m",
        ["1", "2", "3"],
        clock=lambda: now[0],
    )
    late.exchange()
    assert late.policy._learned()[:2, 0] == pytest.approx([0, 1])

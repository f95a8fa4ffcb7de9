"""Learning state in a real server: replicas end with the sums of one, whatever happens to the server."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from lepton_plugins.errors import InvalidInput, StateAway, StateInvalid
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.learner import Learner
from lepton_plugins.routing.learning_state import Flush, MemoryStateStore, StateStore, Sums, open_state
from lepton_plugins.testing import StateStoreContract
from lepton_plugins.testing.store import decision_block
from lepton_redis.state import RedisStateStore
from lepton_selection.epsilon_greedy import EpsilonGreedy

ARMS = ["1", "2", "3"]


def learner(store: StateStore, model: str) -> Learner:
    start = {"live": ARMS, "metric": "mse", "baseline": None, "start": dict.fromkeys(ARMS, 0.5)}
    policy = EpsilonGreedy(PolicyDocument(kind="epsilon_greedy", document=start), {}, ARMS, 0)
    return Learner(policy, store, model, ARMS, interval=3600)


@pytest.fixture(autouse=True)
def _server_of_the_contract(server: Any) -> None:
    TestRedis.uri = server.uri


class TestRedis(StateStoreContract):
    uri: ClassVar[str] = ""

    def open(self, folder: Path) -> StateStore:
        # A database of its own for each check: the folder's name decides.
        number = sum(folder.name.encode()) % 16
        store = RedisStateStore(f"{self.uri.rpartition('/')[0]}/{number}")
        if not (folder / "begun").exists():
            store._server.client.flushdb()
            (folder / "begun").touch()
        return store


def test_two_replicas_end_with_exactly_the_sums_of_one(server: Any) -> None:
    model = f"two-{time.time_ns()}"
    stores = [RedisStateStore(server.uri) for _ in range(2)]
    replicas = [learner(store, model) for store in stores]
    one = learner(MemoryStateStore(), "m")
    rng = np.random.default_rng(0)
    for number in range(600):
        arm, reward, propensity = int(rng.integers(3)), float(rng.integers(5)) / 4, 0.25
        one.learn(arm, {}, reward, propensity, 0.0)
        replicas[number % 2].learn(arm, {}, reward, propensity, 0.0)
        if rng.random() < 0.05:
            replicas[int(rng.integers(2))].exchange()
    for replica in (*replicas, *replicas):
        replica.exchange()
    for replica in replicas:
        assert np.array_equal(replica.policy._learned(), one.policy._learned())
    for store in stores:
        store.close()


def test_a_killed_server_loses_and_doubles_nothing(own_server: Any) -> None:
    """While it is away decisions go on by what is learned here; when it is back each flush counts once."""
    store, other_store = RedisStateStore(own_server.uri), RedisStateStore(own_server.uri)
    replica, other = learner(store, "m"), learner(other_store, "m")
    replica.learn(0, {}, 1.0, 0.5, 0.0)
    assert replica.exchange()
    other.learn(1, {}, 1.0, 0.5, 0.0)
    own_server.kill()
    for _ in range(4):
        replica.learn(2, {}, 1.0, 0.5, 0.0)
    assert not replica.exchange()
    assert not other.exchange()
    replica.learn(2, {}, 0.0, 0.5, 0.0)
    assert replica.policy._learned()[:, 0].tolist() == [1, 0, 5]
    assert replica.policy.choose_one({}, 2**63).reason
    own_server.start_again()
    for one in (replica, other, replica, other):
        assert one.exchange()
    for one in (replica, other):
        assert one.policy._learned()[:, 0].tolist() == [1, 1, 5]
    store.close()
    other_store.close()


def test_an_answer_that_is_lost_counts_once(own_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server adds, and dies before the replica hears of it."""
    store = RedisStateStore(own_server.uri)
    replica = learner(store, "m")
    replica.exchange()
    replica.learn(0, {}, 1.0, 0.5, 0.0)
    call = store._server.call

    def lost(ask: Any) -> Any:
        call(ask)
        own_server.kill()
        raise StateAway("it", "gone")

    monkeypatch.setattr(store._server, "call", lost)
    assert not replica.exchange()
    monkeypatch.setattr(store._server, "call", call)
    own_server.start_again()
    replica.learn(0, {}, 1.0, 0.5, 0.0)
    assert replica.exchange()
    assert store.exchange("m", ["1"], None)["1"].values[0] == 2
    store.close()


def test_any_replica_may_be_told_and_it_counts_once(server: Any) -> None:
    stores = [RedisStateStore(server.uri) for _ in range(2)]
    name = f"r{time.time_ns()}"
    block = replace(decision_block(name, 3), time=time.time())
    stores[0].ledger.remember(block, np.array([1.0, 2.0, 3.0]))
    stores[0].ledger.claim([])  # Written by now.
    kinds = [[c.kind for c in store.ledger.claim([f"{name}/0", f"{name}/00"])] for store in reversed(stores)]
    assert kinds == [["first", "again"], ["again", "again"]]
    for store in stores:
        store.close()


def test_rewards_wait_for_the_server(own_server: Any, make_learning_router: Any) -> None:
    """Feedback while it is away is learned from when it is back, and a second time counts for nothing."""
    store = RedisStateStore(own_server.uri)
    router = make_learning_router(store)
    decisions = [router.predict({"x": np.array([1.0], np.float32)}).decisions[0] for _ in range(4)]
    assert router.feedback([{"decision": decisions[0].id, "reward": 1.0}]).learned == 1
    own_server.kill()
    items = [{"decision": decision.id, "reward": 1.0} for decision in decisions]
    receipt = router.feedback([*items, items[3]])
    assert (receipt.waiting, receipt.learned) == (5, 0)
    later = router.predict({"x": np.array([1.0], np.float32)}).decisions[0]
    own_server.start_again()
    router.settle()
    receipt = router.feedback([*items, {"decision": later.id, "reward": 0.0}])
    assert (receipt.stored, receipt.duplicates, receipt.learned) == (1, 4, 1)
    router.settle()
    sums = store.exchange(
        router.plan.model, [f"{a.artifact_digest[7:]}/{router._decider.policy.spec}" for a in router.plan.arms], None
    )
    assert sum(one.values[0] for one in sums.values()) == 5
    store.close()


def test_a_claim_whose_answer_was_lost_is_not_lost(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStateStore(server.uri)
    name = f"r{time.time_ns()}"
    store.ledger.remember(replace(decision_block(name, 1), time=time.time()), None)
    store.ledger.claim([])
    ask = store._ledger._ask

    def lost(decisions: Sequence[str]) -> Any:
        ask(decisions)
        raise OSError("no answer")

    monkeypatch.setattr(store._ledger, "_ask", lost)
    with pytest.raises(StateAway):
        store.ledger.claim([f"{name}/0"])
    monkeypatch.setattr(store._ledger, "_ask", ask)
    assert [c.kind for c in store.ledger.claim([f"{name}/0", f"{name}/0"])] == ["first", "again"]
    store.close()


def test_a_server_that_is_not_there_stops_nobody() -> None:
    store = RedisStateStore("redis://127.0.0.1:1/0")
    replica = learner(store, "m")
    assert not replica.exchange()
    replica.learn(0, {}, 1.0, 0.5, 0.0)
    assert replica.policy._learned()[0, 0] == 1
    with pytest.raises(StateAway, match=r"redis://127\.0\.0\.1:1/0 can't be reached"):
        store.exchange("m", ["1"], None)
    store.close()


def test_uris() -> None:
    offer = plugins().by_scheme("store", "valkey://host:1/0", holds="state")
    assert offer.name == "redis"
    store = open_state("redis://user:secret-word@127.0.0.1:1/0?ttl=2h")
    assert isinstance(store, RedisStateStore)
    assert store._server.ttl == 7200
    with pytest.raises(StateAway) as caught:
        store.exchange("m", [], None)
    assert "secret-word" not in str(caught.value)
    for wrong in ("redis://host:1/0?ttl=soon", "redis://host:port/0"):
        with pytest.raises(InvalidInput):
            RedisStateStore(wrong)


def test_what_is_no_state_is_told(server: Any) -> None:
    store = RedisStateStore(server.uri)
    model = f"odd-{os.getpid()}-{time.time_ns()}"
    store._server.client.hset(store._server.key(model, "sums"), "a", b"nonsense!")
    with pytest.raises(StateInvalid, match="is no learning state: found 9 bytes"):
        store.exchange(model, ["a"], None)
    store.exchange(model, ["b"], Flush("r", 1, {"b": Sums(0, np.ones(2))}))
    store.close()

"""Routers that learn: from each decision once, late or not, across plans and replicas."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_plugins.errors import FeedbackUnavailable, LabelInvalid, RewardInvalid
from lepton_plugins.records.decision import Feedback
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.learning_state import MemoryStateStore
from lepton_plugins.routing.policy import Batch, Choice
from lepton_plugins.routing.router import Router

from .conftest import bandit


def mean_of(router: Router, version: str) -> str:
    (candidate,) = [c for c in router.explain({}).candidates if c.version == version]
    return candidate.reason


@pytest.fixture
def learning(make_router: Any) -> Any:
    """A router with a bandit and a store of its own, and its rows."""

    def make(state: Any = None, policy: PolicyDocument | None = None, **settings: Any) -> Router:
        router = make_router(policy=policy or bandit(prior=0), state=state or MemoryStateStore(), **settings)
        assert isinstance(router, Router)
        return router

    return make


ROWS = np.random.default_rng(0).normal(size=(8, 3))


def columns(rows: int = 8) -> dict[str, np.ndarray]:
    return {f"x{i}": ROWS[:rows, i].astype(np.float32) for i in range(3)}


def reward_all(router: Router, decisions: Sequence[Any], reward: float) -> Any:
    return router.feedback([{"decision": decision.id, "reward": reward} for decision in decisions])


def test_a_router_learns_from_feedback(learning: Any) -> None:
    router = learning()
    before = router.predict(columns(1)).decisions[0]
    assert before.propensity == pytest.approx([1 / 3] * 3)
    receipt = router.feedback([Feedback(decision=before.id, reward=0.0)])
    assert (receipt.stored, receipt.duplicates, receipt.unknown, receipt.learned) == (1, 0, (), 1)
    after = router.predict(columns(1)).decisions[0]
    place = router.plan.arms.index(router.plan.arm(before.chosen))
    assert after.propensity[place] < 0.1
    assert before.state != after.state
    assert after.state.split(":")[0] == before.state.split(":")[0]
    assert "1 rewards" in mean_of(router, before.chosen)


def test_a_reward_counts_once_and_strangers_are_named(learning: Any) -> None:
    router = learning()
    decisions = router.predict(columns()).decisions
    reward_all(router, decisions[:3], 1.0)
    state = router.decide({}).state
    receipt = reward_all(router, [*decisions[:3], decisions[3], decisions[3]], 1.0)
    assert (receipt.stored, receipt.duplicates, receipt.learned) == (1, 4, 1)
    strangers = ["nobody/0", f"{decisions[0].id.split('/')[0]}/8", "", "no id"]
    receipt = router.feedback([{"decision": name, "reward": 1.0} for name in strangers])
    assert (list(receipt.unknown), receipt.stored, receipt.learned) == (strangers, 0, 0)
    assert router.decide({}).state != state


def test_rewards_beyond_the_range_store_nothing(learning: Any) -> None:
    router = learning()
    decisions = router.predict(columns(2)).decisions
    with pytest.raises(RewardInvalid, match="Found the reward 7; expected 0 to 1"):
        router.feedback([{"decision": decisions[0].id, "reward": 1.0}, {"decision": decisions[1].id, "reward": 7.0}])
    assert reward_all(router, decisions, 1.0).learned == 2


def test_forced_and_fallback_rows_do_not_train(learning: Any, linear_files: dict[str, Path]) -> None:
    forced = learning()
    decisions = forced.predict(columns(), version="2").decisions
    receipt = reward_all(forced, decisions, 1.0)
    assert (receipt.stored, receipt.learned) == (8, 0)

    models = {"1": linear_files["1"], "2": linear_files["fails"], "3": linear_files["3"]}
    router = learning(models=models)
    made = router.predict(
        {"x0": np.full(60, -1.0, np.float32), "x1": np.zeros(60, np.float32), "x2": np.zeros(60, np.float32)}
    )
    fell = [d for d in made.decisions if d.fallback]
    stayed = [d for d in made.decisions if not d.fallback]
    assert fell
    assert reward_all(router, fell, 1.0).learned == 0
    assert reward_all(router, stayed, 1.0).learned == len(stayed)


def test_held_out_and_exploring_rows_train_by_their_propensity(learning: Any) -> None:
    router = learning(policy=bandit("exp3", prior=0), around={"holdout": 0.3, "explore": 0.2})
    prediction = router.predict({name: np.repeat(column, 40) for name, column in columns().items()})
    receipt = reward_all(router, prediction.decisions, 0.5)
    assert receipt.learned == 320
    assert {"holdout", "explore"} <= {decision.reason for decision in prediction.decisions}
    later = router.predict({name: np.repeat(column, 40) for name, column in columns().items()})
    for block in (prediction.block, later.block):
        assert (router.replay(block) == block.chosen).all()


def test_a_label_is_a_reward_by_the_plans_metric(learning: Any, positive: Any) -> None:
    router = learning(policy=bandit(prior=0, epsilon=0))
    prediction = router.predict(columns(1))
    (decision,) = prediction.decisions
    with pytest.raises(LabelInvalid, match="Found the label 'maybe'; expected one of the classes"):
        router.feedback([Feedback(decision=decision.id, label="maybe")])
    label = router.classes[1]
    assert router.feedback([Feedback(decision=decision.id, label=label)]).learned == 1
    loss = -np.log(positive(decision.chosen, ROWS[:1])[0])
    (candidate,) = [c for c in router.explain({}).candidates if c.version == decision.chosen]
    assert candidate.score == pytest.approx(max(1 - loss / (2 * 0.7), 0), abs=1e-4)


def test_without_learning_nothing_changes(make_router: Any, weighted_policy: Any) -> None:
    router = make_router(policy=weighted_policy({"1": 1.0}))
    with pytest.raises(FeedbackUnavailable):
        router.feedback([{"decision": "a/0", "reward": 1}])
    assert router.predict(columns(1)).decisions[0].state is None


def test_what_was_learned_survives_the_plan(learning: Any) -> None:
    """Keyed by model, version's digest and the sums' meaning: a new plan, or another policy, goes on."""
    store = MemoryStateStore()
    first = learning(store)
    decisions = [first.predict(columns(1)).decisions[0] for _ in range(40)]
    reward_all(first, decisions, 1.0)
    learned = {c.version: c.reason.split(": ")[1] for c in first.explain({}).candidates}
    late = first.predict(columns(1)).decisions[0]
    first.close()
    second = learning(store, policy=bandit("thompson", prior=0))
    assert {c.version: c.reason.split(": ")[1] for c in second.explain({}).candidates} == learned
    assert second.feedback([Feedback(decision=late.id, reward=0.0)]).learned == 1
    other = learning(store, policy=bandit("thompson", prior=0, reward=[0, 10]))
    assert all("no reward yet" in c.reason for c in other.explain({}).candidates)


def test_a_decision_log_helps_where_this_process_does_not_know(learning: Any, tmp_path: Path) -> None:
    """Another worker's decision, or one from before a restart: the shared log has it."""
    from lepton_files.jsonl import JsonLinesDecisionLog

    def router_with_log() -> Router:
        return learning(MemoryStateStore(), log=JsonLinesDecisionLog(tmp_path / "log"))  # type: ignore[no-any-return]

    one, other = router_with_log(), router_with_log()
    decisions = one.predict(columns()).decisions
    one.settle()
    receipt = reward_all(other, decisions[:5], 1.0)
    assert (receipt.stored, receipt.learned) == (5, 5)
    receipt = reward_all(one, [*decisions, decisions[7]], 1.0)
    assert (receipt.stored, receipt.duplicates, receipt.learned) == (3, 6, 3)
    receipt = one.feedback([{"decision": "nobody/0", "reward": 1.0}])
    assert (receipt.unknown, receipt.stored) == (("nobody/0",), 0)


def test_a_batch_of_feedback_in_threads_is_counted_exactly(learning: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    router = learning()
    decisions = [d for _ in range(50) for d in router.predict(columns()).decisions]
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda part: reward_all(router, part, 1.0), [decisions] * 8))
    assert sum(r.learned for r in receipts) == 400
    assert sum(r.duplicates for r in receipts) == 7 * 400
    router.settle()
    (store,) = {id(router._state): router._state}.values()
    counted = sum(s.values[0] for s in store._sums[router.plan.model].values())
    assert counted == 400


def test_a_flush_is_exchanged_by_itself(learning: Any) -> None:
    store = MemoryStateStore()
    one, other = learning(store), learning(store)
    decision = one.predict(columns(1)).decisions[0]
    reward_all(one, [decision], 1.0)
    deadline = time.monotonic() + 20
    while "1 rewards" not in mean_of(other, decision.chosen) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "1 rewards" in mean_of(other, decision.chosen)


def test_a_learning_choice_is_a_draw_from_its_vector(learning: Any) -> None:
    router = learning()
    policy = router._decider.policy
    draws = np.random.default_rng(0).integers(0, 2**64, 300, dtype=np.uint64)
    choice: Choice = policy.choose(Batch(300, {}, draws))
    for row, draw in enumerate(draws.tolist()):
        assert policy.choose_one({}, draw).arm == choice.arms[row]

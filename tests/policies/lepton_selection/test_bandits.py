"""Bandits: they learn what pays, from sums that add up in any order."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.errors import ColumnMissing, LeptonError, PolicyUnfit, RewardInvalid
from lepton_plugins.planning.gain import compiled
from lepton_plugins.routing.policy import Batch
from lepton_plugins.testing import LearningContract
from lepton_plugins.testing.evidence import paired_predictions
from lepton_selection.bandit import Bandit
from lepton_selection.best_of import best_of
from lepton_selection.epsilon_greedy import EpsilonGreedy
from lepton_selection.exp3 import Exp3
from lepton_selection.linear import FILE
from lepton_selection.lints import LinTs
from lepton_selection.linucb import LinUcb
from lepton_selection.thompson import Thompson
from lepton_selection.ucb import Ucb

CARRIERS = ["AA", "B6", "UA"]
COLUMNS: Mapping[str, Sequence[Any]] = {"carrier": CARRIERS, "distance": [float(d) for d in range(100, 3000, 50)]}
WITHOUT_CONTEXT = [
    (EpsilonGreedy, {}),
    (Ucb, {}),
    (Exp3, {}),
    (Thompson, {}),
    (Thompson, {"likelihood": "gaussian"}),
]
WITH_CONTEXT = [(LinUcb, {"features": ["carrier", "distance"]}), (LinTs, {"features": ["carrier", "distance"]})]
ALL = WITHOUT_CONTEXT + WITH_CONTEXT


class TestEpsilonGreedy(LearningContract):
    policy = EpsilonGreedy


class TestUcb(LearningContract):
    policy = Ucb


class TestExp3(LearningContract):
    policy = Exp3


class TestThompson(LearningContract):
    policy = Thompson


class TestThompsonGaussian(LearningContract):
    policy = Thompson
    params = {"likelihood": "gaussian"}


class TestLinUcb(LearningContract):
    policy = LinUcb
    params = {"features": ["carrier", "hour"]}
    columns = {"carrier": ["AA", "UA", None], "hour": [1, 12, 20.5]}


class TestLinTs(LearningContract):
    policy = LinTs
    params = {"features": {"carrier": "hashed:8", "hour": "one_hot", "x": "standardised"}}
    columns = {"carrier": ["AA", "UA", None], "hour": [1, 12, 20.5], "x": [1.0, float("nan"), 3.0]}


def made(
    kind: type[Bandit], params: Mapping[str, Any], versions: Sequence[str] = ("1", "2", "3"), live: int | None = None
) -> Bandit:
    checked = kind.Params.model_validate({"prior": 0, **params})
    paired = paired_predictions(COLUMNS, versions, 600)
    if live is not None:
        paired = paired.only(range(live))
    document = kind.compile(checked, paired, kind.propose(checked, paired), None, versions, None)
    policy = compiled(kind.__name__.lower(), kind, checked, document, versions, versions[0])
    assert isinstance(policy, Bandit)
    return policy


def trained(policy: Bandit, rounds: int, pays: Any, seed: int = 0) -> list[int]:
    """Decide, reward and learn; the arms that were chosen."""
    rng = np.random.default_rng(seed)
    chosen = []
    for _ in range(rounds):
        context = {"carrier": CARRIERS[int(rng.integers(3))], "distance": float(rng.integers(100, 3000))}
        row = policy.choose_one(context, int(rng.integers(0, 2**64, dtype=np.uint64)))
        reward = float(rng.random() < pays(context, row.arm))
        policy.learn(row.arm, policy.contribution(context, reward, row.vector[row.arm]), 1.0)
        chosen.append(row.arm)
    return chosen


@pytest.mark.parametrize(("kind", "params"), ALL)
def test_what_pays_is_chosen(kind: type[Bandit], params: Mapping[str, Any]) -> None:
    policy = made(kind, params)
    chosen = trained(policy, 3000, lambda context, arm: (0.2, 0.7, 0.3)[arm])
    late = np.bincount(chosen[-500:], minlength=3) / 500
    assert late.argmax() == 1
    assert late[1] > 0.7


@pytest.mark.parametrize(("kind", "params"), WITH_CONTEXT)
def test_who_pays_where_is_found(kind: type[Bandit], params: Mapping[str, Any]) -> None:
    policy = made(kind, params)
    trained(policy, 3000, lambda context, arm: 0.8 if arm == CARRIERS.index(context["carrier"]) else 0.2)
    for arm, carrier in enumerate(CARRIERS):
        candidates = policy.explain({"carrier": carrier, "distance": 900.0})
        assert max(candidates, key=lambda c: c.propensity).version == str(arm + 1)
        assert candidates[arm].score == pytest.approx(0.8, abs=0.15)
        assert "rewards" in candidates[arm].reason


@pytest.mark.parametrize(("kind", "params"), ALL)
@settings(max_examples=15)
@given(data=st.data())
def test_any_state_gives_propensities_and_rows_agree_with_batches(
    kind: type[Bandit], params: Mapping[str, Any], data: st.DataObject
) -> None:
    policy = made(kind, params)
    event = st.tuples(
        st.integers(0, 2),
        st.sampled_from(CARRIERS),
        st.floats(100, 3000),
        st.floats(0, 1),
        st.floats(0.01, 1),
    )
    for arm, carrier, distance, reward, propensity in data.draw(st.lists(event, max_size=25)):
        context = {"carrier": carrier, "distance": distance}
        policy.learn(arm, policy.contribution(context, reward, propensity), 1.0)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = 40
    carriers = np.array([*CARRIERS, None, "new"], dtype=object)[rng.integers(5, size=rows)]
    distances = np.where(rng.random(rows) < 0.1, np.nan, rng.uniform(0, 1e6, rows))
    columns = {"carrier": carriers, "distance": distances}
    draws = rng.integers(0, 2**64, rows, dtype=np.uint64)
    context = {name: columns[name] for name in policy.features}
    choice = policy.choose(Batch(rows, context, draws))
    vectors = choice.propensities
    assert vectors.sum(axis=1) == pytest.approx(1)
    assert (vectors >= 0.001 - 1e-12).all()
    again = policy.choose(Batch(rows, context, draws))
    assert (again.arms == choice.arms).all()
    for row in range(rows):
        one = policy.choose_one({name: column[row] for name, column in context.items()}, int(draws[row]))
        assert one.arm == choice.arms[row]
        assert np.allclose(one.vector, vectors[row], atol=1e-7)
        assert one.reason == choice.reasons[choice.cells[row]]


@pytest.mark.parametrize(("kind", "params"), ALL)
@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([0.0, 0.25, 1.0])), max_size=12))
def test_sums_add_up_in_any_order(kind: type[Bandit], params: Mapping[str, Any], events: list[Any]) -> None:
    def of(some: Sequence[Any]) -> Bandit:
        policy = made(kind, params)
        for arm, place, reward in some:
            context = {"carrier": CARRIERS[place % 3], "distance": 600.0 * place}
            policy.learn(arm, policy.contribution(context, reward, 0.5), 1.0)
        return policy

    whole = of(events)._learned()
    parts = [of(events[start::3])._learned() for start in range(3)]
    for order in itertools.permutations(parts):
        assert np.allclose(sum(order), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "params"), WITH_CONTEXT)
def test_learning_one_by_one_is_learning_all_at_once(kind: type[Bandit], params: Mapping[str, Any]) -> None:
    policy = made(kind, params)
    trained(policy, 2500, lambda context, arm: 0.2 + 0.2 * arm)
    at_once = made(kind, params)
    at_once.restore(policy._learned())
    for carrier in CARRIERS:
        context = {"carrier": carrier, "distance": 1200.0}
        for found, expected in zip(policy._moments_one(context), at_once._moments_one(context), strict=True):
            assert np.allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("prior", [0, 20])
@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_lints_is_as_unsure_as_its_rewards_are_noisy(noise: float, prior: float) -> None:
    features = {"features": {"distance": "standardised"}, "prior": prior}
    policy, parts = made(LinTs, features), [made(LinTs, features), made(LinTs, features)]
    assert isinstance(policy, LinTs)
    assert policy._noise() == pytest.approx(0.25)
    rng = np.random.default_rng(1)
    count, seen = 1500, []
    for number in range(count):
        context, arm = {"distance": float(rng.uniform(100, 3000))}, int(rng.integers(3))
        reward = float(np.clip(0.3 + 0.1 * arm + context["distance"] / 1e4 + rng.normal(0, noise), 0, 1))
        contribution = policy.contribution(context, reward, 0.3)
        seen.append((arm, contribution[2:4], reward))
        for one in (policy, parts[number % 2]):
            one.learn(arm, contribution, 1.0)
    # The residual sum of squares and the pull of the start, row by row.
    squares = 0.25
    for arm in range(3):
        weights = policy._weights[arm]
        start = np.linalg.solve(policy._first, policy._first_rewards[arm])
        squares += float((weights - start) @ policy._first @ (weights - start))
        squares += sum((reward - x @ weights) ** 2 for own, x, reward in seen if own == arm)
    assert policy._noise() == pytest.approx(squares / (1 + count), rel=1e-6)
    assert policy._noise() == pytest.approx(noise**2, rel=0.15, abs=2 / count)
    merged = made(LinTs, features)
    merged.restore(parts[0]._learned() + parts[1]._learned())
    assert isinstance(merged, LinTs)
    assert merged._noise() == pytest.approx(policy._noise(), rel=1e-6)
    unsure = policy._unsure(policy._moments_one({"distance": 1550.0})[1])
    assert unsure == pytest.approx(np.sqrt(policy._noise() / (count / 3)), rel=0.1)


@pytest.mark.parametrize(("kind", "params"), ALL)
def test_it_pickles_with_what_it_learned(kind: type[Bandit], params: Mapping[str, Any]) -> None:
    policy = made(kind, params)
    trained(policy, 200, lambda context, arm: 0.2 + 0.3 * arm)
    copy = pickle.loads(pickle.dumps(policy))
    context = {"carrier": "UA", "distance": 700.0}
    assert np.allclose(copy.choose_one(context, 2**63).vector, policy.choose_one(context, 2**63).vector, atol=1e-9)
    assert copy.spec == policy.spec


@pytest.mark.parametrize(("kind", "params"), ALL)
def test_shadows_are_never_chosen(kind: type[Bandit], params: Mapping[str, Any]) -> None:
    policy = made(kind, {**params, "floor": 0.1}, live=2)
    for draw in (0, 2**63, 2**64 - 1):
        row = policy.choose_one({"carrier": "AA", "distance": 500.0}, draw)
        assert row.arm in (0, 1)
        assert row.vector[2] == 0
    assert policy.explain({"carrier": "AA", "distance": 500.0})[2].reason == "a shadow is never chosen"


def test_the_evidence_is_where_it_starts_and_rewards_take_over() -> None:
    policy = made(EpsilonGreedy, {"prior": 50})
    leader = int(np.argmax(policy.choose_one({}, 0).vector))
    start = policy.document.document["start"]
    assert str(leader + 1) == max(start, key=lambda version: start[version])
    other = (leader + 1) % 3
    for _ in range(500):
        policy.learn(other, policy.contribution({}, 1.0, 0.3), 1.0)
        policy.learn(leader, policy.contribution({}, 0.0, 0.3), 1.0)
    assert int(np.argmax(policy.choose_one({}, 0).vector)) == other


def test_lints_expects_the_middle_of_an_arm_that_it_knows_nothing_of() -> None:
    policy = made(LinTs, {"features": ["distance"], "reward": [-1, 3]})
    context = {"distance": 2000.0}
    assert [candidate.score for candidate in policy.explain(context)] == pytest.approx([1.0] * 3)
    for _ in range(50):
        policy.learn(0, policy.contribution(context, policy.reward(-1), 0.3), 1.0)
    shown = policy.explain(context)
    assert shown[0].score == pytest.approx(-1, abs=0.1)
    assert [candidate.score for candidate in shown[1:]] == pytest.approx([1.0] * 2)
    assert policy.choose_one(context, 0).vector[0] < 0.01


def test_a_linear_start_predicts_the_evidence() -> None:
    checked = LinUcb.Params.model_validate({"features": ["carrier"], "prior": 1e6, "ridge": 1e-6})
    paired = paired_predictions({"carrier": CARRIERS}, ("1", "2", "3"), 3000)
    made_ = LinUcb.compile(checked, paired, None, None, ["1", "2", "3"], None)
    policy = compiled("linucb", LinUcb, checked, made_, ["1", "2", "3"], "1")
    utility = np.clip(paired.utility, 0, 1)
    for carrier in CARRIERS:
        here = paired.columns["carrier"] == carrier
        scores = [candidate.score for candidate in policy.explain({"carrier": carrier})]
        assert scores == pytest.approx(utility[here].mean(axis=0), abs=1e-3)
    assert set(made_.files) == {FILE}


def test_policies_of_equal_features_go_on_with_each_others_sums() -> None:
    assert made(Ucb, {}).spec == made(Thompson, {"prior": 3}).spec == made(Exp3, {}).spec
    assert made(LinUcb, {"features": ["carrier"]}).spec == made(LinTs, {"features": ["carrier"]}).spec
    different = {
        made(LinUcb, {"features": ["carrier"]}).spec,
        made(LinUcb, {"features": ["distance"]}).spec,
        made(LinUcb, {"features": ["carrier"], "half_life": "1h"}).spec,
        made(LinUcb, {"features": ["carrier"], "reward": [0, 5]}).spec,
        made(Ucb, {}).spec,
    }
    assert len(different) == 5


def test_rewards_have_a_range() -> None:
    policy = made(Ucb, {"reward": [-1, 3]})
    assert (policy.reward(-1), policy.reward(1), policy.reward(3)) == (0, 0.5, 1)
    with pytest.raises(RewardInvalid, match=r"Found the reward 4; expected -1 to 3, as policy\.params\.reward says"):
        policy.reward(4)


def test_what_cannot_be_meant_is_refused() -> None:
    paired = paired_predictions(COLUMNS, ("1", "2", "3"), 300)
    with pytest.raises(PolicyUnfit, match=r"policy ucb: found floor: 0\.5 for each of 3 versions"):
        Ucb.propose(Ucb.Params.model_validate({"floor": 0.5}), paired)

    def compile_linear(**params: Any) -> None:
        LinTs.compile(LinTs.Params.model_validate(params), paired, None, None, ["1", "2", "3"], None)

    with pytest.raises(ColumnMissing, match=r"feature column 'carier' isn't in the data.*carrier"):
        compile_linear(features=["carier"])
    with pytest.raises(PolicyUnfit, match=r"carrier: standardised, a column without numbers"):
        compile_linear(features={"carrier": "standardised"})
    with pytest.raises(PolicyUnfit, match=r"encoded in 999 numbers, expected at most 512"):
        compile_linear(features={"carrier": "hashed:999"})
    for wrong in ({"reward": [1, 0]}, {"features": {"carrier": "binned"}}, {"alpha": 1}):
        with pytest.raises((ValueError, LeptonError)):
            LinTs.Params.model_validate({"features": ["carrier"], **wrong})


def test_encodings() -> None:
    features = {"distance": "one_hot", "carrier": "hashed:7", "delay": "standardised"}
    columns = {"carrier": CARRIERS, "distance": [100.0, 200.0, 300.0], "delay": [-1.0, 0.0, 5.0]}
    checked = LinTs.Params.model_validate({"features": features})
    paired = paired_predictions(columns, ("1", "2"), 600)
    policy = compiled(
        "lints", LinTs, checked, LinTs.compile(checked, paired, None, None, ["1", "2"], None), ["1", "2"], "1"
    )
    assert isinstance(policy, LinTs)
    for context in (
        {"distance": 200.0, "carrier": "UA", "delay": 3},
        {"distance": 999.0, "carrier": None, "delay": float("nan")},
        {"distance": None, "carrier": 7, "delay": "3"},
        {"delay": 1e300},
        {},
    ):
        one = policy._encoder.encode_one(context)
        row = {name: np.array([context.get(name)], dtype=object) for name in features}
        assert np.array_equal(policy._encoded(row, 1)[0], one), context
        assert np.abs(one).max() <= 10


@pytest.mark.parametrize("optimistic", [False, True])
@pytest.mark.parametrize(("means", "spreads"), [([0.0, 0.1, -0.2], [0.1, 0.3, 1.0]), ([0.5] * 10, [0.2] * 10)])
def test_best_of_is_the_probability_to_be_best(means: list[float], spreads: list[float], optimistic: bool) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(means, spreads, size=(200_000, len(means)))
    if optimistic:
        samples = np.maximum(samples, means)
        samples += rng.uniform(0, 1e-9, samples.shape)  # Equal means tie.
    simulated = np.bincount(samples.argmax(axis=1), minlength=len(means)) / len(samples)
    found = best_of(np.array([means]), np.array([spreads]), optimistic=optimistic)[0]
    assert found == pytest.approx(simulated, abs=0.006)
    assert found.sum() == pytest.approx(1)


def test_thompson_is_near_the_exact_betas() -> None:
    policy = made(Thompson, {"floor": 0})
    for arm, (wins, losses) in enumerate([(3, 9), (20, 25), (2, 1)]):
        for number in range(wins + losses):
            policy.learn(arm, policy.contribution({}, float(number < wins), 0.5), 1.0)
    rng = np.random.default_rng(0)
    samples = np.stack([rng.beta(4, 10, 200_000), rng.beta(21, 26, 200_000), rng.beta(3, 2, 200_000)], axis=1)
    exact = np.bincount(samples.argmax(axis=1), minlength=3) / len(samples)
    assert list(policy.choose_one({}, 0).vector) == pytest.approx(exact, abs=0.03)


def test_exp3_counts_rewards_by_their_propensity() -> None:
    """Rewards that are logged more often for one arm don't make it better."""
    policy = made(Exp3, {"floor": 0})
    for _ in range(90):
        policy.learn(0, policy.contribution({}, 0.5, 0.9), 1.0)
    for _ in range(10):
        policy.learn(1, policy.contribution({}, 0.5, 0.1), 1.0)
    vector = policy.choose_one({}, 0).vector
    assert vector[0] == pytest.approx(vector[1])


def test_what_fades_is_forgotten() -> None:
    """Sums scaled down, as time does it, let the newer rewards prevail."""
    policy = made(LinUcb, {"features": ["carrier"], "half_life": "1h", "alpha": 0.1})
    context = {"carrier": "AA"}
    for _ in range(300):
        policy.learn(0, policy.contribution(context, 1.0, 0.5), 1.0)
    policy.restore(policy._learned() * 2.0**-12)
    for _ in range(20):
        policy.learn(0, policy.contribution(context, 0.0, 0.5), 1.0)
        policy.learn(1, policy.contribution(context, 0.6, 0.5), 1.0)
    assert max(policy.explain(context), key=lambda c: c.propensity).version == "2"


def test_evidence_without_rows_starts_alike() -> None:
    paired = replace(paired_predictions(COLUMNS, ("1", "2"), 100))
    made_ = Ucb.compile(Ucb.Params(), paired.take(np.zeros(0, dtype=np.intp)), None, None, ["1", "2"], None)
    policy = compiled("ucb", Ucb, Ucb.Params(), made_, ["1", "2"], "1")
    assert list(policy.choose_one({}, 0).vector) == [0.5, 0.5]

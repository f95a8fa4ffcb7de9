"""The estimators on simulated logs whose truth is known: no bias, and intervals that cover at their level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.records.report import Estimate
from lepton_plugins.replay.estimators import (
    Influence,
    direct,
    doubly_robust,
    effective_size,
    expected_size,
    ips,
    on_policy,
    snips,
)
from lepton_plugins.replay.features import design
from lepton_plugins.replay.notes import misfit
from lepton_plugins.replay.off_policy import LEAST_UNITS
from lepton_plugins.replay.reward_model import RewardModel

SEGMENTS, ARMS = 4, 3
TRAFFIC = np.array([0.4, 0.3, 0.2, 0.1])
MEANS = np.random.default_rng(5).uniform(0.2, 0.8, (SEGMENTS, ARMS))
TARGET = np.eye(ARMS)[[0, 2, 1, 2]]
TRUTH = float(TRAFFIC @ (TARGET * MEANS).sum(axis=1))


def simulated(seed: int, units: int, *, epsilon: float = 0.2, repeats: int = 4, effect: float = 0.15):
    """A log of 1 to `repeats` rows a unit, whose rewards go together: the arm and an effect stay with the unit."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, repeats + 1, units)
    # Truth is by row: who comes often counts often, whichever segment he is in.
    unit = np.repeat(np.arange(units), counts)
    segment = random.choice(SEGMENTS, units, p=TRAFFIC)[unit]
    logged = np.full((SEGMENTS, ARMS), epsilon / ARMS)
    logged[np.arange(SEGMENTS), [0, 0, 1, 1]] += 1 - epsilon
    drawn = random.random(units)[unit]
    chosen = (np.cumsum(logged[segment], axis=1) <= drawn[:, None]).sum(axis=1)
    rate = MEANS[segment, chosen] + random.choice([-effect, effect], units)[unit]
    rewards = (random.random(len(unit)) < rate).astype(float)
    weights = TARGET[segment, chosen] / logged[segment, chosen]
    names = np.array(list("abcd"), dtype=object)[segment]
    features = design({"segment": names}, len(unit))
    return rewards, chosen.astype(np.intp), weights, TARGET[segment], features, unit, logged[segment]


def estimates(seed: int, units: int, **settings) -> dict[str, tuple[Influence, np.ndarray]]:
    rewards, chosen, weights, target, features, unit, _ = simulated(seed, units, **settings)
    return {
        "direct": (direct(rewards, chosen, target, features, unit), unit),
        "ips": (ips(rewards, weights), unit),
        "snips": (snips(rewards, weights), unit),
        "dr": (doubly_robust(rewards, chosen, weights, target, features, unit), unit),
    }


def coverage(runs: int, units: int, **settings) -> tuple[dict[str, float], dict[str, float]]:
    covered: dict[str, list[bool]] = {}
    values: dict[str, list[float]] = {}
    for seed in range(runs):
        for name, (found, unit) in estimates(seed, units, **settings).items():
            low, high = found.interval(unit)
            covered.setdefault(name, []).append(low <= TRUTH <= high)
            values.setdefault(name, []).append(found.value)
    rates = {name: float(np.mean(hits)) for name, hits in covered.items()}
    bias = {name: float((np.mean(v) - TRUTH) / (np.std(v) / np.sqrt(runs))) for name, v in values.items()}
    return rates, bias


def test_intervals_cover_and_nothing_is_biased():
    rates, bias = coverage(300, 500)
    for name in rates:
        # Two points, and twice what 300 runs vary by.
        assert 0.95 - 0.02 - 0.025 <= rates[name] <= 1.0, (name, rates)
        assert abs(bias[name]) < 4, (name, bias)


@pytest.mark.long
@pytest.mark.parametrize(("units", "epsilon"), [(300, 0.5), (1000, 0.1), (2000, 0.1), (2000, 0.5)])
def test_intervals_cover_at_their_level(units, epsilon):
    rates, _ = coverage(1000, units, epsilon=epsilon)
    for name, rate in rates.items():
        assert 0.93 - 0.007 <= rate <= 0.97 + 0.01, (name, rates)


@pytest.mark.parametrize(("units", "epsilon", "told"), [(300, 0.1, False), (300, 0.5, True), (1000, 0.1, True)])
def test_too_little_exploration_is_known_before_it_shows(units, epsilon, told):
    """Where intervals don't cover, the size says so in each log, also in one that has seen no heavy weight."""
    sizes, found = [], []
    for seed in range(40):
        _, _, weights, target, _, unit, logged = simulated(seed, units, epsilon=epsilon)
        sizes.append(expected_size(target, logged, unit, unit.astype(np.uint64)))
        found.append(effective_size(weights, unit))
    assert all((size >= LEAST_UNITS) is told for size in sizes)
    assert np.median(sizes) == pytest.approx(np.median(found), rel=0.2)
    assert told or max(found) > LEAST_UNITS


def test_a_reward_model_without_a_unit_is_the_one_fitted_without_it():
    """Units of one row, of a few, and of more rows than features; the last unit alone has a feature."""
    random = np.random.default_rng(0)
    unit = random.permutation(np.repeat(np.arange(30), random.choice([1, 3, 8], 30)))
    features = np.column_stack([np.ones(len(unit)), random.normal(size=(len(unit), 3)), unit == 29])
    rewards, direction = random.normal(size=len(unit)), random.normal(size=5)
    model = RewardModel.fitted(features, rewards, unit)
    lost = np.bincount(unit, weights=model.influence(direction))
    for left in range(30):
        kept = unit != left
        without = RewardModel.fitted(features[kept], rewards[kept], unit[kept])
        assert lost[left] == pytest.approx((model.weights - without.weights) @ direction, abs=1e-6)


def test_a_reward_model_that_does_not_fit_is_told():
    random = np.random.default_rng(1)
    rows = 4000
    first, second = random.integers(0, 2, (2, rows))
    alike = first == second
    # Whether the columns are alike decides the reward and the logged policy: a sum over columns can't say so.
    chosen = (random.random(rows) < np.where(alike, 0.9, 0.3)).astype(np.intp)
    rewards = (random.random(rows) < np.where(alike & (chosen == 1), 0.9, 0.4)).astype(float)
    weights = np.where(chosen == 1, 1 / np.where(alike, 0.9, 0.3), 0.0)
    target = np.tile([0.0, 1.0], (rows, 1))
    features, unit = design({"first": first, "second": second}, rows), np.arange(rows)
    modelled = direct(rewards, chosen, target, features, unit)
    robust = doubly_robust(rewards, chosen, weights, target, features, unit)
    low, high = robust.interval(unit)
    assert low < 0.65 < high
    assert modelled.value > high
    low, high = (robust - modelled).interval(unit)
    given = {"level": 0.95, "method": "dr", "n": rows, "greater_is_better": True}
    said = misfit(Estimate(value=robust.value - modelled.value, low=low, high=high, **given))
    assert "go by the doubly robust estimate" in said[0]
    assert misfit(Estimate(value=0.0, low=-0.01, high=0.01, **given)) == []


def test_units_matter():
    """Rewards of one unit go together: by row the interval would be too short."""
    _, (found, unit) = list(estimates(1, 2000, repeats=12, effect=0.2).items())[1]
    low, high = found.interval(unit)
    naive_low, naive_high = found.interval(np.arange(len(unit)))
    assert high - low > 1.3 * (naive_high - naive_low)


def test_the_doubly_robust_estimate_is_the_surest():
    widths = {name: np.subtract(*found.interval(unit)[::-1]) for name, (found, unit) in estimates(3, 4000).items()}
    assert widths["dr"] < widths["ips"]


def test_the_logging_policy_earns_what_was_earned():
    rewards, chosen, _, _, features, unit, _ = simulated(0, 500)
    own = np.eye(ARMS)[chosen]
    ones = np.ones(len(rewards))
    earned = on_policy(rewards)
    for found in (ips(rewards, ones), snips(rewards, ones), doubly_robust(rewards, chosen, ones, own, features, unit)):
        assert found.value == pytest.approx(earned.value)
        assert (found - earned).interval(unit) == pytest.approx((0, 0), abs=1e-9)


@given(shift=st.floats(-50, 50), seed=st.integers(0, 5))
@settings(max_examples=25)
def test_a_reward_that_is_counted_from_elsewhere_moves_the_estimate_by_as_much(shift, seed):
    rewards, chosen, weights, target, features, unit, _ = simulated(seed, 200)
    for estimator in (
        lambda r: snips(r, weights),
        lambda r: direct(r, chosen, target, features, unit),
        lambda r: doubly_robust(r, chosen, weights, target, features, unit),
    ):
        before, after = estimator(rewards), estimator(rewards + shift)
        assert after.value - before.value == pytest.approx(shift, abs=0.02 * abs(shift) + 1e-6)


def test_effective_size_counts_units():
    unit = np.repeat(np.arange(100), 5)
    assert effective_size(np.ones(500), unit) == pytest.approx(100)
    assert effective_size((unit == 3).astype(float), unit) == pytest.approx(1)
    assert effective_size(np.zeros(500), unit) == 0
    even, sticky, apart = np.full((500, 2), 0.5), unit.astype(np.uint64), np.arange(500, dtype=np.uint64)
    assert expected_size(even, even, unit, sticky) == expected_size(even, even, unit, apart) == pytest.approx(100)
    first = np.tile([1.0, 0.0], (500, 1))
    assert expected_size(first, even, unit, sticky) == pytest.approx(50)
    # Five rows that each draw for themselves: of a unit's weights, 0 or 2, the sum has a mean of 5 and a variance of 5.
    assert expected_size(first, even, unit, apart) == pytest.approx(100 * 25 / 30)


def test_features_know_numbers_from_categories():
    rows = 200
    numbers = np.linspace(0, 1, rows)
    missing = np.array([None if index % 7 == 0 else float(index) for index in range(rows)], dtype=object)
    few = np.arange(rows) % 3
    found = design({"numbers": numbers, "missing": missing, "few": few, "nothing": np.full(rows, None)}, rows)
    assert found.shape == (rows, 1 + 4 + 4 + 2 + 0)
    assert np.isfinite(found).all()

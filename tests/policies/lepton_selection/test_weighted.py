"""`weighted`: shares as asked for, one row like many, a short path."""

from __future__ import annotations

import pickle
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_plugins.errors import ArmMissing
from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch
from lepton_selection.weighted import Weighted, WeightedParams


def policy_of(shares: dict[str, float], previous: PolicyDocument | None = None) -> Weighted:
    arms = list(shares)
    params = WeightedParams(shares=shares)
    made = Weighted.compile(params, PairedPredictions.without_rows(arms, arms[0]), None, None, arms, previous)
    return Weighted(PolicyDocument(kind="weighted", params=params.model_dump(), document=made.document), {}, arms, 0)


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_a_row_is_decided_like_a_batch(draw):
    policy = policy_of({"1": 0.5, "2": 0.3, "3": 0.2})
    one = policy.choose_one({}, draw)
    choice = policy.choose(Batch(1, {}, np.array([draw], dtype=np.uint64)))
    assert one.arm == choice.arms[0]
    assert list(one.vector) == choice.propensities[0].tolist()
    assert one.reason == choice.reasons[choice.cells[0]]
    assert one.segment is None


def test_shares_and_propensities():
    policy = policy_of({"1": 70, "2": 30})
    draws = np.random.default_rng(0).integers(0, 2**64, 200_000, dtype=np.uint64)
    choice = policy.choose(Batch(len(draws), {}, draws))
    assert np.bincount(choice.arms) / len(draws) == pytest.approx([0.7, 0.3], abs=0.005)
    assert choice.propensities.sum(axis=1) == pytest.approx(1)
    assert choice.propensities[0] == pytest.approx([0.7, 0.3], abs=1e-5)


def test_a_unit_keeps_its_arm_when_shares_change():
    before = policy_of({"1": 0.7, "2": 0.3})
    after = policy_of({"1": 0.6, "2": 0.4}, before.document)
    draws = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    batch = Batch(len(draws), {}, draws)
    moved = before.choose(batch).arms != after.choose(batch).arms
    assert moved.mean() == pytest.approx(0.1, abs=0.005)


def test_without_shares_every_version_is_proposed(paired_of):
    paired = paired_of([[0.0], [0.1]])
    proposal = Weighted.propose(WeightedParams(), paired)
    assert proposal.allowed.all()
    assert proposal.utility[0] == pytest.approx(paired.utility.mean(axis=0))


def test_shares_of_a_version_that_is_no_arm(paired_of):
    with pytest.raises(ArmMissing, match=r"policy\.params\.shares names version 9, .* Arms: 1, 2"):
        Weighted.propose(WeightedParams(shares={"9": 1.0}), paired_of([[0.0], [0.1]]))


@pytest.mark.parametrize("shares", [{"1": 0.7, "2": 0.2}, {"1": -1, "2": 2}, {"1": float("nan")}])
def test_shares_that_cannot_be_meant(shares):
    with pytest.raises(ValidationError):
        WeightedParams(shares=shares)


def test_it_pickles():
    policy = pickle.loads(pickle.dumps(policy_of({"1": 0.5, "2": 0.5})))
    assert policy.choose_one({}, 2**63).arm == 1


def test_one_row_in_two_microseconds():
    policy = policy_of({"1": 0.5, "2": 0.5})
    draws = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64).tolist()

    def timed() -> float:
        start = perf_counter()
        for draw in draws:
            policy.choose_one({}, draw)
        return (perf_counter() - start) / len(draws)

    assert min(timed() for _ in range(5)) < 2e-6

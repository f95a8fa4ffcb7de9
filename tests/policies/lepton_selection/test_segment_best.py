"""`segment_best`: the provably better version in each segment, the default everywhere else."""

from __future__ import annotations

import pickle
from time import perf_counter

import numpy as np
import pytest
from pydantic import ValidationError

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.policy import Batch
from lepton_selection.segment_best import MISSING, SegmentBest
from lepton_selection.segment_params import SegmentBestParams
from lepton_selection.shrinkage import shrink

BY_SEGMENT = SegmentBestParams(by=("segment",))


def best_allowed(proposal) -> np.ndarray:
    worth = np.where(proposal.allowed, proposal.utility, -np.inf)
    shares = np.zeros(worth.shape)
    shares[np.arange(len(worth)), worth.argmax(axis=1)] = 1
    return shares


def served(paired, params=BY_SEGMENT, shares=None, previous=None) -> SegmentBest:
    proposal = SegmentBest.propose(params, paired)
    shares = best_allowed(proposal) if shares is None else shares
    made = SegmentBest.compile(params, paired, proposal, shares, paired.versions, previous)
    document = PolicyDocument(
        kind="segment_best", params=params.model_dump(mode="json"), features=made.features, document=made.document
    )
    return SegmentBest(document, {}, paired.versions, paired.default)


SPLIT = [[0, 0, 0], [0.15, -0.15, 0], [-0.15, 0.15, 0]]


def test_each_segment_gets_its_best(paired_of):
    policy = served(paired_of(SPLIT))
    chosen = [policy.choose_one({"segment": name}, 0) for name in ("s000", "s001", "s002")]
    assert [policy.arms[row.arm] for row in chosen] == ["2", "3", "1"]
    assert [row.reason for row in chosen] == ["best in s000", "best in s001", "default: nothing proved better in s002"]
    assert [row.segment for row in chosen] == ["s000", "s001", "s002"]
    assert chosen[0].vector == (0, 1, 0)


def test_unknown_and_missing_values_get_the_default(paired_of):
    policy = served(paired_of(SPLIT))
    for value, reason in [("s999", "default: unknown segment"), (None, "default: segment is missing")]:
        row = policy.choose_one({"segment": value}, 0)
        assert (row.arm, row.reason, row.segment) == (0, reason, None)
    assert policy.choose_one({}, 0).reason == "default: segment is missing"


def test_rows_without_a_value_are_traffic_of_the_default(paired_of):
    paired = paired_of(SPLIT)
    column = paired.columns["segment"].copy()
    column[::4] = None
    paired.columns = {"segment": column}
    proposal = SegmentBest.propose(BY_SEGMENT, paired)
    assert proposal.segments[-1] == MISSING
    assert proposal.traffic[-1] == pytest.approx(0.25)
    assert proposal.traffic.sum() == pytest.approx(1)
    assert proposal.allowed[-1].tolist() == [True, False, False]


def test_a_batch_is_decided_like_its_rows(paired_of):
    paired = paired_of(SPLIT)
    shares = np.array([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]])
    policy = served(paired, shares=shares)
    rng = np.random.default_rng(1)
    column = np.array(["s000", "s001", "s002", "s003", None], dtype=object)[rng.integers(0, 5, 500)]
    draws = rng.integers(0, 2**64, 500, dtype=np.uint64)
    choice = policy.choose(Batch(500, {"segment": column}, draws))
    assert choice.propensities.sum(axis=1) == pytest.approx(1)
    for row in range(500):
        one = policy.choose_one({"segment": column[row]}, int(draws[row]))
        cell = choice.cells[row]
        assert one.arm == choice.arms[row]
        assert list(one.vector) == choice.vectors[cell].tolist()
        assert one.reason == choice.reasons[cell]
        assert one.segment == choice.segments[cell]
        assert one.vector[one.arm] > 0
    mixed = choice.arms[column == "s000"]
    assert 0.3 < mixed.mean() < 0.7


def test_a_new_share_in_a_segment_moves_only_what_it_must(paired_of):
    paired = paired_of(SPLIT)
    before = served(paired, shares=np.array([[0.7, 0.3, 0], [0, 0, 1], [1, 0, 0]]))
    after = served(paired, shares=np.array([[0.6, 0.4, 0], [0, 0, 1], [1, 0, 0]]), previous=before.document)
    draws = np.random.default_rng(0).integers(0, 2**64, 50_000, dtype=np.uint64)
    batch = Batch(len(draws), {"segment": np.full(len(draws), "s000", dtype=object)}, draws)
    assert (before.choose(batch).arms != after.choose(batch).arms).mean() == pytest.approx(0.1, abs=0.01)


def test_crossed_columns(paired_of):
    rng = np.random.default_rng(0)
    paired = paired_of([[0, 0], [0.2, -0.2]], extra={"month": rng.integers(1, 3, 4000)})
    policy = served(paired, SegmentBestParams(by=("segment", "month")))
    assert policy.choose_one({"segment": "s000", "month": 1}, 0).arm == 1
    assert policy.choose_one({"segment": "s000", "month": 1.0}, 0).segment == "s000,1"
    assert policy.choose_one({"segment": "s001", "month": 2}, 0).arm == 0
    assert policy.choose_one({"segment": "s000"}, 0).reason == "default: segment or month is missing"


def test_a_least_gain(paired_of):
    paired = paired_of([[0, 0], [0.1, 0.3]], rows=8000)
    proposal = SegmentBest.propose(SegmentBestParams(by=("segment",), min_gain=0.2), paired)
    assert proposal.allowed[:, 1].tolist() == [False, True]


def test_explain_tells_who_lost_and_why(paired_of):
    paired = paired_of([[0, 0], [0.15, -0.15], [0.05, -0.1]])
    policy = served(paired)
    one, two, three = policy.explain({"segment": "s000"})
    assert (one.score, one.propensity) == (0.0, 0.0)
    assert two.propensity == 1
    assert two.score == pytest.approx(0.15, abs=0.04)
    assert "mse better by" in three.reason
    assert [c.propensity for c in policy.explain({"segment": "?"})] == [1, 0, 0]


def test_a_segment_of_few_rows_borrows_from_the_others(paired_of):
    paired = paired_of([[0] * 5, [0.2] * 5], rows=4000, probabilities=[0.3, 0.3, 0.3, 0.098, 0.002])
    alone = SegmentBest.propose(SegmentBestParams(by=("segment",), shrinkage=False), paired)
    shrunken = SegmentBest.propose(BY_SEGMENT, paired)
    assert not alone.allowed[-1, 1]
    assert shrunken.allowed[-1, 1]
    assert shrunken.detail["low"][-1, 1] > alone.detail["low"][-1, 1]


def test_versions_that_answer_alike_stay_with_the_default(paired_of):
    paired = paired_of([[0, 0], [0, 0]])
    paired.values[:, 1] = paired.values[:, 0]
    paired.utility[:, 1] = paired.utility[:, 0]
    assert not SegmentBest.propose(BY_SEGMENT, paired).allowed[:, 1].any()


@pytest.mark.parametrize(
    ("versions", "segments", "rows", "tries"), [(2, 1, 400, 600), (3, 10, 1500, 300), (8, 40, 4000, 100)]
)
def test_pure_noise_stays_with_the_default(paired_of, versions, segments, rows, tries):
    """The guarantee: with probability 97.5 % or more, not a single segment leaves the default."""
    left = sum(
        SegmentBest.propose(BY_SEGMENT, paired_of(np.zeros((versions, segments)), rows=rows, seed=seed))
        .allowed[:, 1:]
        .any()
        for seed in range(tries)
    )
    assert left / tries <= 0.025 + 2.5 * np.sqrt(0.025 * 0.975 / tries)


def test_pure_noise_in_groups_stays_with_the_default(paired_of):
    groups = np.repeat(np.arange(150), 10)
    left = sum(
        SegmentBest.propose(BY_SEGMENT, paired_of(np.zeros((3, 6)), rows=1500, seed=seed, groups=groups))
        .allowed[:, 1:]
        .any()
        for seed in range(200)
    )
    assert left <= 10


def test_skewed_noise_stays_with_the_default():
    """Log losses of a rare class: most differences tiny, a few large, on average none."""
    left = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        segments = rng.integers(0, 20, 3000)
        size = rng.lognormal(-3, 1.2, (3000, 2))
        differences = size * rng.choice([-1, 1], (3000, 2))
        left += (shrink(differences, segments).low > 0).any()
    assert left <= 10


def test_shrunken_differences_are_nearer_the_truth(paired_of):
    """The point of shrinkage: where true differences vary as much as noise does, errors are smaller."""
    rng = np.random.default_rng(0)
    raw_error = shrunken_error = 0.0
    for seed in range(20):
        truth = np.zeros((2, 30))
        truth[1] = rng.normal(0.02, 0.03, 30)
        paired = paired_of(truth, rows=3000, seed=seed)
        alone = SegmentBest.propose(SegmentBestParams(by=("segment",), shrinkage=False), paired)
        shrunken = SegmentBest.propose(BY_SEGMENT, paired)
        for proposal in (alone, shrunken):
            found = (proposal.utility[:, 1] - proposal.utility[:, 0]) / paired.unit
            error = float(np.square(found - truth[1]).sum())
            if proposal is alone:
                raw_error += error
            else:
                shrunken_error += error
    assert shrunken_error < 0.6 * raw_error


def test_simultaneous_bounds_hold_where_differences_are_real(paired_of):
    """Lower bounds above the truth anywhere are rare: at most 2.5 % of the time for all cells together."""
    wrong = 0
    rng = np.random.default_rng(5)
    for seed in range(200):
        truth = np.zeros((3, 12))
        truth[1:] = rng.normal(0, 0.1, (2, 12))
        paired = paired_of(truth, rows=3000, seed=seed)
        proposal = SegmentBest.propose(BY_SEGMENT, paired)
        wrong += (proposal.detail["low"][:, 1:] / paired.unit > truth[1:].T).any()
    assert wrong / 200 <= 0.06


def test_one_row_in_three_microseconds(paired_of):
    policy = served(paired_of(np.zeros((3, 300)), rows=6000))
    context = {"segment": "s123", "other": 1.0}
    draws = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64).tolist()

    def timed() -> float:
        start = perf_counter()
        for draw in draws:
            policy.choose_one(context, draw)
        return (perf_counter() - start) / len(draws)

    assert min(timed() for _ in range(5)) < 3e-6


def test_it_pickles(paired_of):
    policy = pickle.loads(pickle.dumps(served(paired_of(SPLIT))))
    assert policy.choose_one({"segment": "s000"}, 0).arm == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"by": []}, "at least 1"),
        ({"by": ["a", "a"]}, "each column once"),
        ({"by": ["a"], "min_gain": -1}, "greater than or equal to 0"),
        ({"by": ["a"], "levle": 0.9}, "Extra inputs"),
    ],
)
def test_parameters_that_cannot_be_meant(params, message):
    with pytest.raises(ValidationError, match=message):
        SegmentBestParams.model_validate(params)

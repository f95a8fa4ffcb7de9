"""The stated gain: unbiased where choices are stable, never far above the truth, its interval covers it."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.planning.gain import answered, compiled, cross_fitted_gain, row_weights
from lepton_plugins.records.report import Dataset
from lepton_selection.segment_best import SegmentBest
from lepton_selection.segment_params import SegmentBestParams

PARAMS = SegmentBestParams(by=("segment",))


def paired_of(truth: np.ndarray, rows: int, seed: int, groups: np.ndarray | None = None) -> PairedPredictions:
    rng = np.random.default_rng(seed)
    versions, count = truth.shape
    segment = rng.integers(0, count, rows)
    own = rng.normal(0, 0.3, (rows, versions))
    if groups is not None:
        own = 0.7 * own + 0.7 * rng.normal(0, 0.3, (int(groups.max()) + 1, versions))[groups]
    values = 0.6 - truth[:, segment].T + own
    return PairedPredictions(
        dataset=Dataset(name="made", digest="d", rows=rows),
        task="regression",
        metric="mse",
        greater_is_better=False,
        baseline=0.6,
        versions=[str(i + 1) for i in range(versions)],
        default=0,
        values=values,
        utility=1 - values / 1.2,
        target=np.zeros(rows),
        outputs=[np.zeros(rows)] * versions,
        columns={"segment": segment},
        groups=groups,
    )


def best(proposal) -> np.ndarray:
    worth = np.where(proposal.allowed, proposal.utility, -np.inf)
    shares = np.zeros(worth.shape)
    shares[np.arange(len(worth)), worth.argmax(axis=1)] = 1
    return shares


def simulate(truth: np.ndarray, rows: int, tries: int, groups: np.ndarray | None = None) -> np.ndarray:
    """(stated, true, low, high) of each try; the true gain is that of the very plan that was made."""
    found = []
    for seed in range(tries):
        paired = paired_of(truth, rows, seed, groups)
        proposal = SegmentBest.propose(PARAMS, paired)
        made = SegmentBest.compile(PARAMS, paired, proposal, best(proposal), paired.versions, None)
        served = compiled("segment_best", SegmentBest, PARAMS, made, paired.versions, "1")
        answers = [
            served.arms.index(served.arms[served.choose_one({"segment": s}, 0).arm]) for s in range(truth.shape[1])
        ]
        true = float(np.mean([truth[arm, s] - truth[0, s] for s, arm in enumerate(answers)]))
        whole = paired.improvement(answered(served, paired).choice.propensities)
        gain = cross_fitted_gain("segment_best", SegmentBest, PARAMS, paired, best, np.ones(rows), whole)
        found.append((gain.value, true, gain.low, gain.high))
    return np.array(found)


def test_clear_differences_are_stated_without_bias():
    truth = np.array([[0.0] * 6, [0.12, 0.12, 0.12, -0.12, -0.12, -0.12], [-0.1] * 6])
    stated, true, low, high = simulate(truth, 5000, 60).T
    assert true.mean() == pytest.approx(0.06, abs=0.003)
    assert stated.mean() == pytest.approx(true.mean(), abs=2.5 * (stated - true).std() / np.sqrt(60) + 1e-4)
    assert ((low <= true) & (true <= high)).mean() >= 0.90


def test_the_interval_covers_at_its_level_neither_less_nor_more():
    """Where no fold chooses otherwise. 400 tries: 95 % with 2.5 standard errors (1.1 points) either way."""
    _, true, low, high = simulate(np.array([[0.0, 0.0], [0.3, -0.3]]), 200, 400).T
    above, below = (low > true).mean(), (high < true).mean()
    assert 0.922 <= 1 - above - below <= 0.978
    assert max(above, below) <= 0.05


def test_many_cells_do_not_fool_it():
    """60 cells of small differences: in sample the best of each looks far better than it is."""
    rng = np.random.default_rng(1)
    truth = np.zeros((4, 20))
    truth[1:] = rng.normal(0, 0.03, (3, 20))
    stated, true, low, high = simulate(truth, 4000, 40).T
    in_sample = np.mean(
        [
            np.mean(
                [
                    (paired.values[rows, 0].mean() - paired.values[rows].mean(axis=0)).max()
                    for rows in (paired.columns["segment"] == s for s in range(20))
                ]
            )
            for paired in (paired_of(truth, 4000, seed) for seed in range(5))
        ]
    )
    assert stated.mean() <= true.mean() + 0.001
    assert stated.mean() < 0.5 * in_sample
    assert ((low <= true) & (true <= high)).mean() >= 0.9


def test_pure_noise_gains_nothing():
    stated, true, low, high = simulate(np.zeros((4, 15)), 2000, 40).T
    assert true == pytest.approx(0)
    assert abs(stated.mean()) < 0.0005
    assert ((low <= 0) & (high >= 0)).mean() >= 0.97


def test_groups_are_kept_together():
    groups = np.repeat(np.arange(400), 10)
    truth = np.array([[0.0] * 3, [0.15, -0.1, 0.1]])
    _, true, low, high = simulate(truth, 4000, 40, groups).T
    assert ((low <= true) & (true <= high)).mean() >= 0.90


def test_too_few_rows_for_ten_folds():
    paired = paired_of(np.zeros((2, 2)), 19, 0)
    assert cross_fitted_gain("x", SegmentBest, PARAMS, paired, best, np.ones(19), np.zeros(19)) is None


def test_weights_give_segments_their_traffic():
    cells = np.array([0, 0, 0, 1, 2])
    weights = row_weights(["a", "b", None], cells, {"b": 0.5})
    assert weights.mean() == pytest.approx(1)
    parts = np.bincount(cells, weights=weights) / weights.sum()
    assert parts == pytest.approx([0.375, 0.5, 0.125])
    assert row_weights(["a", "b", None], cells, {}).tolist() == [1] * 5

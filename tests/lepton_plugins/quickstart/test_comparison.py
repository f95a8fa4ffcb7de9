"""Routed against single versions: the estimates, and a verdict that doesn't flatter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from lepton_plugins.quickstart.comparison import compare
from lepton_plugins.quickstart.result import PeriodResult
from lepton_plugins.quickstart.traffic import Answers

NAMES = {"1": ("v1", "first"), "2": ("v2", "second")}
P50: dict[str | None, float] = {None: 1.0, "1": 1.0, "2": 1.0}


def _answers(probability: NDArray[np.float64], versions: NDArray[np.object_] | str) -> Answers:
    named = [versions] * len(probability) if isinstance(versions, str) else versions.tolist()
    return Answers(probability, named, [])


class World:
    """Two carriers, two versions; each version knows the truth of its own carrier and guesses the other's."""

    def __init__(self, rows: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.carriers = random.choice(np.array(["AA", "BB"], dtype=object), rows)
        truth = random.uniform(0.05, 0.6, rows)
        self.target = (random.random(rows) < truth).astype(np.int64)
        wrong = np.full(rows, 0.3)
        own = {"1": self.carriers == "AA", "2": self.carriers == "BB"}
        self.alone = {name: _answers(np.where(knows, truth, wrong), name) for name, knows in own.items()}

    def result(self, routed: Answers) -> PeriodResult:
        return compare("June", self.target, self.carriers, routed, self.alone, NAMES, P50)

    def routed(self, right: bool) -> Answers:
        first, second = ("1", "2") if right else ("2", "1")
        version = np.where(self.carriers == "AA", first, second).astype(object)
        probability = np.where(version == "1", self.alone["1"].probability, self.alone["2"].probability)
        return _answers(probability, version)


@pytest.fixture(scope="module")
def world() -> World:
    return World(20_000, seed=1)


def test_values_are_those_of_scikit_learn(world: World) -> None:
    result = world.result(world.routed(right=True))
    routed = world.routed(right=True).probability
    assert result.routed.log_loss.value == pytest.approx(log_loss(world.target, routed))
    within = sum(
        rows.mean() * roc_auc_score(world.target[rows], routed[rows])
        for rows in (world.carriers == "AA", world.carriers == "BB")
    )
    assert result.routed.auc.value == pytest.approx(within)
    assert [round(single.share, 2) for single in result.singles] == [0.5, 0.5]


def test_differences_are_paired_and_point_the_right_way(world: World) -> None:
    result = world.result(world.routed(right=True))
    for single in result.singles:
        saved, gained = single.loss_saved, single.auc_gained
        assert saved is not None
        assert gained is not None
        assert saved.value == pytest.approx((single.log_loss.value or 0) - (result.routed.log_loss.value or 0))
        assert gained.value == pytest.approx((result.routed.auc.value or 0) - (single.auc.value or 0))
        assert saved.low is not None
        assert saved.low > 0
        assert gained.low is not None
        assert gained.low > 0


def test_a_win_a_tie_and_a_loss_are_called_so(world: World) -> None:
    for sentence in world.result(world.routed(right=True)).verdict:
        assert "routing won" in sentence
    for sentence in world.result(world.routed(right=False)).verdict:
        assert "did not win" in sentence
    best = min(world.result(world.alone["1"]).singles, key=lambda single: single.log_loss.value or 0)
    same = world.alone[{"v1": "1", "v2": "2"}[best.name]]
    assert "a tie" in world.result(same).verdict[0]


def test_a_carrier_without_late_flights_leaves_the_auc_defined(world: World) -> None:
    target = np.where(world.carriers == "AA", world.target, 0)
    result = compare("June", target, world.carriers, world.routed(right=True), world.alone, NAMES, P50)
    rows = world.carriers == "AA"
    assert result.routed.auc.value == pytest.approx(
        roc_auc_score(target[rows], world.routed(right=True).probability[rows])
    )
    assert result.routed.auc.n == rows.sum()


def test_the_interval_of_the_auc_difference_covers_at_its_level() -> None:
    """The truth is known from a large sample; 100 small ones must cover it about 95 % of the time."""
    large = World(400_000, seed=7)
    truth = large.result(large.routed(right=True)).singles[0].auc_gained
    assert truth is not None
    assert truth.value is not None
    covered = 0
    for seed in range(100):
        small = World(1500, seed=100 + seed)
        found = small.result(small.routed(right=True)).singles[0].auc_gained
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth.value <= found.high
    assert 0.90 <= covered / 100 <= 0.99

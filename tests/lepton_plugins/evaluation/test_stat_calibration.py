"""The calibration error's upper limit where the gaps happen to cancel."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.evaluation.score import score, score_slices
from lepton_plugins.records.report import Estimate

CLASSES = ("0", "1")
Slices = dict[tuple[str, ...], tuple[np.ndarray, list[tuple[str, ...]]]]


def constant(stated: float, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and one stated probability for all rows."""
    return positive.astype(int).astype(str), np.tile([1 - stated, stated], (positive.size, 1))


def of(estimates: dict[str, Estimate]) -> tuple[float, float, float]:
    found = estimates["calibration_error"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.value, found.low, found.high


def test_gaps_that_cancel_exactly_leave_an_interval() -> None:
    """100 rows tell a probability to about 0.05; a frequency of just 0.5 is no proof of more."""
    target, output = constant(0.5, np.arange(100) % 2 == 0)
    value, low, high = of(score("classification", target, output, "proba", CLASSES))
    assert (value, low) == (0, 0)
    assert 0.05**2 < high < 0.12**2


def test_certain_and_always_right() -> None:
    positive = np.arange(100) % 2 == 0
    output = np.stack([~positive, positive], axis=1).astype(float)
    value, low, high = of(score("classification", positive.astype(int).astype(str), output, "proba", CLASSES))
    assert (value, low) == (0, 0)
    # 3 % of the rows at most: the rule of three.
    assert high == pytest.approx(0.03, rel=0.04)


@pytest.mark.parametrize("truth", [0.0, 0.03, 0.08])
def test_it_covers_from_perfect_calibration_on(truth: float) -> None:
    samples, rows = 1000, 100
    positive = np.random.default_rng(3).random(samples * rows) < 0.5 + truth
    target, output = constant(0.5, positive)
    codes = np.arange(samples).repeat(rows)
    slices: Slices = {("sample",): (codes, [(str(i),) for i in range(samples)])}
    found = [of(item.metrics) for item in score_slices("classification", target, output, "proba", CLASSES, slices)]
    # 0.95 less three standard errors, and what 100 rows of one probability are too discrete for.
    assert np.mean([low <= truth**2 <= high for _, low, high in found]) >= 0.92
    assert min(high for *_, high in found) > 0.05**2

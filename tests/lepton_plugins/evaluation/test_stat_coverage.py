"""Intervals cover the truth as often as their level says, by simulation where the truth is known.

The settings are fixed: samples of 200 and of 1,000 rows (40 and 200 lists, for rankings), levels of 95 % and 80 %,
2,000 samples a case, the same band for every metric: the level ± 2 points, at 80 % ± 3.6: four of the simulation's own
standard errors, which hundreds of figures need. Each sample is a slice of one large table, so the product's own code
measures thousands of them in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from lepton_plugins.evaluation.difference import paired_differences
from lepton_plugins.evaluation.score import score_slices
from lepton_plugins.records.report import Estimate

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, np.ndarray], Sample]
BINARY, FOUR = ("0", "1"), ("0", "1", "2", "3")
TOLERANCE = 0.02
SAMPLES = 2000
MOST_ROWS = 1_300_000


def both(p: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - p, p])


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def shared(rng: np.random.Generator, units: np.ndarray, rows: int) -> np.ndarray:
    """Standard normal numbers, half of whose variance a unit's rows have in common."""
    return np.sqrt(0.5) * (rng.normal(size=int(units.max()) + 1)[units] + rng.normal(size=rows))


def binary(intercept: float = 0.0, slope: float = 1.0, noise: tuple[float, float] = (1.0, 1.0)) -> Draw:
    """Two classes; versions see the true log odds with noise, over- or underconfident by `slope`."""

    def draw(rng: np.random.Generator, units: np.ndarray) -> Sample:
        n = units.size
        x = intercept + 1.3 * shared(rng, units, n)
        y = (rng.uniform(size=n) < logistic(x)).astype(int)
        a, b = (both(logistic(slope * x + s * rng.normal(size=n))) for s in noise)
        return y, a, b

    return draw


def four_classes(noise: tuple[float, float]) -> Draw:
    def draw(rng: np.random.Generator, units: np.ndarray) -> Sample:
        n = units.size
        z = rng.normal(size=(n, 4)) + np.linspace(0, 1, 4)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        y = (rng.uniform(size=(n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 3)
        noisy = [np.exp(z + s * rng.normal(size=z.shape)) for s in noise]
        return y, *(q / q.sum(axis=1, keepdims=True) for q in noisy)

    return draw


def calibrated(rng: np.random.Generator, units: np.ndarray) -> Sample:
    """Two versions without calibration error, of which the second knows less."""
    from scipy.special import ndtr

    seen, hidden, noise = rng.normal(size=(3, units.size))
    y = (seen + hidden + noise > 0).astype(int)
    return y, both(ndtr(seen + hidden)), both(ndtr(seen / np.sqrt(2)))


def regression(noise: tuple[float, float], skewed: bool = False) -> Draw:
    """Errors of variance 1, normal or exponential."""

    def draw(rng: np.random.Generator, units: np.ndarray) -> Sample:
        n = units.size
        x = shared(rng, units, n)
        error = rng.exponential(size=n) - 1 if skewed else shared(rng, units, n)
        a, b = (2 * x + s * rng.normal(size=n) for s in noise)
        return 2 * x + error, a, b

    return draw


def quantiles(noise: tuple[float, float]) -> Draw:
    """Outputs for the quantiles 0.1, 0.5, 0.9, of two versions that see the centre with noise."""

    def draw(rng: np.random.Generator, units: np.ndarray) -> Sample:
        n = units.size
        x = rng.normal(size=n)
        y = x + rng.normal(size=n)
        a, b = (np.column_stack([x + s * rng.normal(size=n) + q for q in (-1.3, 0.0, 1.3)]) for s in noise)
        return y, a, b

    return draw


def rankings(noise: tuple[float, float]) -> Draw:
    """Lists of items, about a fifth of them relevant; scores are rounded, so that there are ties."""

    def draw(rng: np.random.Generator, units: np.ndarray) -> Sample:
        n = units.size
        x = rng.normal(size=n)
        y = (rng.uniform(size=n) < logistic(x - 1.5)).astype(int)
        a, b = (np.round(x + s * rng.normal(size=n), 1) for s in noise)
        return y, a, b

    return draw


@dataclass(frozen=True)
class Case:
    name: str
    task: Any
    kind: Any
    draw: Draw
    rows: int
    classes: Sequence[str] = ()
    unit: int = 1
    """Rows a unit; 1: rows are independent."""


UNLIKE = Case("two unlike versions", "classification", "proba", binary(noise=(0.3, 2.0)), 200, BINARY)
SKEWED = Case("regression, exponential errors", "regression", "value", regression((0.5, 1.0), skewed=True), 200)
LONG_ONLY = [
    Case("two like versions", "classification", "proba", binary(), 200, BINARY),
    Case("overconfident", "classification", "proba", binary(slope=2.0), 200, BINARY),
    Case("regression", "regression", "value", regression((0.5, 1.0)), 200),
    Case("regression, units of 5", "regression", "value", regression((0.5, 1.0)), 200, unit=5),
]
CASES = [
    UNLIKE,
    SKEWED,
    Case("nearly calibrated", "classification", "proba", binary(noise=(0.0, 0.3)), 200, BINARY),
    Case("both calibrated", "classification", "proba", calibrated, 200, BINARY),
    Case("one in seven positive", "classification", "proba", binary(-2.0), 200, BINARY),
    Case("four classes", "classification", "proba", four_classes((1.0, 0.0)), 200, FOUR),
    Case("quantiles", "regression", "value", quantiles((0.3, 1.0)), 200, ("0.1", "0.5", "0.9")),
    Case("lists of 16", "ranking", "score", rankings((0.5, 1.5)), 640, unit=16),
    Case("units of 5", "classification", "proba", binary(noise=(0.3, 2.0)), 200, BINARY, 5),
    *LONG_ONLY,
]
LARGER = [replace(case, rows=5 * case.rows) for case in CASES]


def coverage(case: Case, replications: int, level: float, seed: int = 7) -> dict[str, tuple[float, float]]:
    """How often the intervals of one version's metrics, and of the differences, hold the truth."""
    rng = np.random.default_rng(seed)

    def grouped(rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        units = np.arange(rows) // case.unit
        return units, units if case.unit > 1 else None

    def measured(sample: Sample, codes: np.ndarray, size: int, groups: np.ndarray | None) -> list[dict[str, Estimate]]:
        slices = {("sample",): (codes, [(str(i),) for i in range(size)])}
        found = score_slices(case.task, sample[0], sample[1], case.kind, case.classes, slices, groups, level)
        return [piece.metrics for piece in found]

    population = 200_000 // case.unit * case.unit
    units, groups = grouped(population)
    y, a, b = case.draw(rng, units)
    everything = np.zeros(population, dtype=int)
    true_a = measured((y, a, b), everything, 1, groups)[0]
    true_b = measured((y, b, a), everything, 1, groups)[0]

    names = list(true_a)
    own: dict[str, list[float]] = {name: [] for name in names}
    paired: dict[str, list[float]] = {name: [] for name in names}
    turns = -(-replications * case.rows // MOST_ROWS)
    at_once = -(-replications // turns)
    for _ in range(turns):
        rows = at_once * case.rows
        units, groups = grouped(rows)
        sample = case.draw(rng, units)
        codes = np.arange(rows) // case.rows
        estimates = measured(sample, codes, at_once, groups)
        for name in names:
            own[name].append(share(true_a[name].value, [metrics[name] for metrics in estimates]))
        gaps = paired_differences(names, case.task, *sample, codes, at_once, case.classes, groups, level)
        for name in names:
            paired[name].append(share(true_b[name].value - true_a[name].value, gaps[name]))
    return {name: (float(np.mean(own[name])), float(np.mean(paired[name]))) for name in names}


def share(value: float, estimates: Sequence[Estimate]) -> float:
    defined = [e for e in estimates if e.value is not None]
    assert len(defined) > 0.9 * len(estimates)
    inside = [(e.low is None or e.low <= value) and (e.high is None or value <= e.high) for e in defined]
    return float(np.mean(inside))


def check(case: Case, level: float) -> None:
    found = coverage(case, SAMPLES, level)
    band = max(TOLERANCE, 4 * np.sqrt(level * (1 - level) / SAMPLES))
    for name, (own, paired) in found.items():
        print(f"{case.name:31} n={case.rows:<5} {level:.0%} {name:18} {own:6.1%} {paired:6.1%}", flush=True)
    missed = {
        f"{name}{of}": covered
        for name, pair in found.items()
        for of, covered in zip(("", ", difference"), pair, strict=True)
        if abs(covered - level) > band
    }
    assert not missed, (case.name, case.rows, level, missed)


@pytest.mark.parametrize("case", [case for case in CASES if case not in LONG_ONLY], ids=lambda case: case.name)
def test_intervals_cover_at_their_level(case: Case) -> None:
    check(case, 0.95)


@pytest.mark.parametrize("case", [UNLIKE, SKEWED], ids=lambda case: case.name)
def test_intervals_cover_at_a_lower_level(case: Case) -> None:
    check(case, 0.8)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("case", CASES + LARGER, ids=lambda case: f"{case.name}, {case.rows} rows")
def test_intervals_cover_at_every_level_and_size(case: Case, level: float) -> None:
    check(case, level)

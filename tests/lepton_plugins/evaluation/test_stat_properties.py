"""What holds for any data: the order of rows has no say, slices partition, estimates stay in their range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.evaluation.difference import paired_difference
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.evaluation.ranking import by_list, rankings
from lepton_plugins.evaluation.row_metrics import row_values
from lepton_plugins.evaluation.score import score, score_slices

QUICK = settings(max_examples=25, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 60)


def table(seed: int, n: int, classes: int, digits: int = 1) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """Random targets and probabilities with many ties, at times of one class only or all alike."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, rng.integers(1, classes + 1), n)
    p = np.round(rng.dirichlet(np.full(classes, 0.5), n), digits)
    p[:, -1] = np.clip(1 - p[:, :-1].sum(axis=1), 0, 1)
    return rng, y, p / p.sum(axis=1, keepdims=True)


@QUICK
@given(seeds, sizes, st.integers(2, 4), st.booleans())
def test_the_order_of_rows_has_no_say(seed: int, n: int, k: int, clustered: bool) -> None:
    rng, y, proba = table(seed, n, k)
    classes = tuple(str(i) for i in range(k))
    groups = rng.integers(0, max(n // 3, 1), n) if clustered else None
    order = rng.permutation(n)
    one = score("classification", y, proba, "proba", classes, groups)
    other = score("classification", y[order], proba[order], "proba", classes, None if groups is None else groups[order])
    for name in one:
        assert one[name].model_dump() == pytest.approx(other[name].model_dump(), abs=1e-7), name


@QUICK
@given(seeds, sizes, st.integers(2, 4), st.booleans())
def test_estimates_stay_in_their_range(seed: int, n: int, k: int, clustered: bool) -> None:
    rng, y, proba = table(seed, n, k)
    _, _, other = table(seed + 1, n, k)
    classes = tuple(str(i) for i in range(k))
    groups = rng.integers(0, max(n // 3, 1), n) if clustered else None
    found = score("classification", y, proba, "proba", classes, groups)
    assert list(found) == [info.name for info in available("classification", k)]
    for info in available("classification", k):
        estimate = found[info.name]
        assert info.low <= estimate.low <= estimate.high <= info.high
        assert estimate.value is None or estimate.low <= estimate.value <= estimate.high
        gap = paired_difference(info.name, "classification", y, proba, other, classes, groups)
        assert (gap.value is None) == (estimate.value is None or gap.method.startswith("undefined"))
        assert gap.value is None or gap.low <= gap.value <= gap.high


@QUICK
@given(seeds, sizes)
def test_slices_partition_the_rows(seed: int, n: int) -> None:
    rng, y, proba = table(seed, n, 2)
    codes = rng.integers(0, 5, n)
    classes = ("0", "1")
    pieces = score_slices(
        "classification", y, proba, "proba", classes, {("c",): (codes, [(str(i),) for i in range(5)])}
    )
    assert sum(piece.n for piece in pieces) == n
    whole = score("classification", y, proba, "proba", classes)
    for name in ("accuracy", "log_loss", "brier"):
        parts = [piece.n * piece.metrics[name].value for piece in pieces if piece.n]
        assert sum(parts) / n == pytest.approx(whole[name].value)


@QUICK
@given(seeds, sizes)
def test_the_auc_depends_on_the_order_of_scores_only(seed: int, n: int) -> None:
    _, y, proba = table(seed, n, 2)
    one = score("classification", y, proba, "proba", ("0", "1"))["roc_auc"]
    other = score("classification", y, np.exp(3 * proba[:, 1]), "score", ("0", "1"))["roc_auc"]
    assert one.model_dump() == pytest.approx(other.model_dump())
    if one.value is not None:
        mirrored = score("classification", y, -proba[:, 1], "score", ("0", "1"))["roc_auc"]
        assert (1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low) == pytest.approx(
            (one.value, one.low, one.high), abs=1e-7
        )


@QUICK
@given(seeds, sizes, st.floats(0.1, 50), st.floats(-20, 20))
def test_regression_metrics_move_with_the_units_of_the_target(seed: int, n: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    y, output = rng.normal(size=n), rng.normal(size=n)
    one = score("regression", y, output, "value")
    other = score("regression", scale * y + shift, scale * output + shift, "value")
    for name, factor in (("mae", scale), ("rmse", scale), ("mse", scale**2), ("r2", 1.0)):
        for end in ("value", "low", "high"):
            before, after = getattr(one[name], end), getattr(other[name], end)
            assert before is after is None or after == pytest.approx(factor * before, rel=1e-6, abs=1e-9)


@QUICK
@given(seeds, st.integers(1, 40), st.sampled_from(["ndcg@1", "ndcg@5", "mrr", "recall@3"]))
def test_ranking_metrics_are_in_the_unit_interval_and_best_for_the_ideal_order(seed: int, n: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 6, n)
    relevance = rng.integers(0, 3, n) * (rng.uniform(size=n) < 0.5)
    scores = np.round(rng.normal(size=n), 0)
    found = row_values(name, relevance, scores, (), groups)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    order = rng.permutation(n)
    shuffled = row_values(name, relevance[order], scores[order], (), groups[order])
    assert np.sort(found) == pytest.approx(np.sort(shuffled))
    ideal = by_list(name, rankings(relevance, relevance.astype(float), groups))
    assert (ideal >= found - 1e-12).all()


@QUICK
@given(seeds, st.integers(5, 60))
def test_a_higher_level_gives_a_wider_interval(seed: int, n: int) -> None:
    _, y, proba = table(seed, n, 2)
    narrow = score("classification", y, proba, "proba", ("0", "1"), level=0.8)
    wide = score("classification", y, proba, "proba", ("0", "1"), level=0.99)
    for name in narrow:
        assert wide[name].low <= narrow[name].low + 1e-9
        assert narrow[name].high <= wide[name].high + 1e-9

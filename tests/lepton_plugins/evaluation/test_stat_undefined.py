"""What can't be measured says so and keeps its whole range; small samples keep wide intervals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lepton_plugins.evaluation.difference import mean_difference, paired_difference
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.evaluation.score import score, score_slices


@pytest.fixture(autouse=True)
def no_warnings() -> None:
    warnings.simplefilter("error")


def both(p: list[float] | np.ndarray) -> np.ndarray:
    return np.column_stack([1 - np.asarray(p), p])


def test_one_class_only() -> None:
    found = score("classification", np.zeros(50, dtype=int), both(np.full(50, 0.2)), "proba", ("0", "1"))
    auc = found["roc_auc"]
    assert (auc.value, auc.low, auc.high, auc.n) == (None, 0.0, 1.0, 50)
    assert auc.method == "undefined: one class only"
    assert found["balanced_accuracy"].value is None
    assert found["recall"].method == "undefined: no positive row"
    assert found["precision"].method == "undefined: no row was predicted positive"
    assert found["accuracy"].value == 1.0
    assert 0.9 < found["accuracy"].low < 0.95


def test_missing_outputs_touch_only_the_slices_they_are_in() -> None:
    y = np.array([0, 1] * 40)
    p = np.linspace(0.1, 0.9, 80)
    p[3] = np.nan
    codes = np.arange(80) // 40
    first, second, empty = score_slices(
        "classification", y, both(p), "proba", ("0", "1"), {("half",): (codes, [("a",), ("b",), ("c",)])}
    )
    assert all(e.value is None for e in first.metrics.values())
    assert first.metrics["log_loss"].method == "undefined: 1 of 40 predictions are missing or not finite"
    assert all(e.value is not None for e in second.metrics.values())
    assert empty.n == 0
    assert {e.method for e in empty.metrics.values()} == {"undefined: no rows"}
    regression = score("regression", y.astype(float), p, "value")["mse"]
    assert (regression.value, regression.low, regression.high) == (None, 0.0, None)


def test_labels_give_what_labels_can() -> None:
    y = np.array(["no", "yes"] * 30, dtype=object)
    found = score("classification", y, y[::-1], "label", ("no", "yes"))
    assert found["accuracy"].value == 0.0
    assert found["log_loss"].value is None
    assert "labels, no probabilities" in found["log_loss"].method
    scores = score("classification", y, np.arange(60.0), "score", ("no", "yes"))
    assert scores["roc_auc"].value is not None
    assert scores["f1"].value is None


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_tiny_samples_have_wide_intervals(n: int) -> None:
    rng = np.random.default_rng(n)
    y = np.arange(n) % 2
    a, b = both(rng.uniform(0.05, 0.95, n)), both(rng.uniform(0.05, 0.95, n))
    for name, estimate in score("classification", y, a, "proba", ("0", "1")).items():
        assert estimate.low <= estimate.high
        if estimate.value is not None:
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.high - estimate.low > 0.1, name
    for info in available("classification", 2):
        gap = paired_difference(info.name, "classification", y, a, b, ("0", "1"))
        assert gap.value is None or gap.high - gap.low > 0.1, info.name


def test_perfect_versions_are_not_certain() -> None:
    y = np.array([0, 1] * 15)
    found = score("classification", y, both(np.where(y == 1, 0.9, 0.1)), "proba", ("0", "1"))
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "roc_auc"):
        assert found[name].value == found[name].high == 1.0
        assert 0.7 < found[name].low < 0.95, name
    assert found["log_loss"].high > 1  # 10 % of the rows could still be entirely wrong
    large = score("classification", y.repeat(1000), both(np.where(y == 1, 0.9, 0.1)).repeat(1000, axis=0), "proba",
                  ("0", "1"))  # fmt: skip
    assert large["roc_auc"].low > 0.999


def test_the_same_predictions_differ_by_nothing() -> None:
    y = np.array([0, 1, 1, 0, 1])
    a = both([0.3, 0.2, 0.9, 0.4, 0.6])
    for info in available("classification", 2):
        gap = paired_difference(info.name, "classification", y, a, a.copy(), ("0", "1"))
        assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
        assert gap.method == "identical predictions"


def test_agreeing_by_chance_is_not_being_the_same() -> None:
    y = np.array([0, 1] * 20)
    a, b = both(np.where(y == 1, 0.8, 0.2)), both(np.where(y == 1, 0.7, 0.3))
    for name in ("accuracy", "recall", "f1", "balanced_accuracy", "roc_auc"):
        gap = paired_difference(name, "classification", y, a, b, ("0", "1"))
        assert gap.value == 0.0
        assert gap.low < -0.03, name
        assert gap.high > 0.03, name


def test_undefined_differences() -> None:
    y = np.zeros(20, dtype=int)
    a, b = both(np.linspace(0.1, 0.4, 20)), both(np.linspace(0.4, 0.1, 20))
    gap = paired_difference("roc_auc", "classification", y, a, b, ("0", "1"))
    assert (gap.value, gap.low, gap.high) == (None, -1.0, 1.0)
    labels = paired_difference("log_loss", "classification", y, a, a.argmax(axis=1), ("0", "1"))
    assert labels.value is None
    assert "labels" in labels.method
    assert mean_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0])).value is None


def test_users_without_anything_relevant_do_not_count() -> None:
    groups = np.array(["a", "a", "b", "b"])
    found = score("ranking", np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 2.0, 1.0]), "score", (), groups)
    assert (found["mrr"].value, found["mrr"].n) == (0.5, 1)
    nothing = score("ranking", np.zeros(4), np.array([1.0, 2.0, 2.0, 1.0]), "score", (), groups)
    assert nothing["mrr"].value is None
    assert nothing["mrr"].n == 0


def test_no_rows_at_all() -> None:
    empty = np.zeros(0)
    assert {e.value for e in score("regression", empty, empty, "value").values()} == {None}
    assert {e.value for e in score("classification", empty, np.zeros((0, 2)), "proba", ("0", "1")).values()} == {None}
    assert {e.value for e in score("ranking", empty, empty, "score", (), empty).values()} == {None}

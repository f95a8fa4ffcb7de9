"""Values equal scikit-learn's, intervals equal their textbook's, on random data with ties and odd cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lepton_plugins.errors import BaselineUndefined, InvalidInput, MetricNotByRow, UnknownMetric
from lepton_plugins.evaluation import row_metrics
from lepton_plugins.evaluation.difference import mean_difference, paired_difference, paired_differences
from lepton_plugins.evaluation.metrics import available, metric
from lepton_plugins.evaluation.score import score, score_slices


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def both(p: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - p, p])


def two_classes(rng: np.random.Generator, n: int, digits: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets and two versions' probabilities, rounded so that many are equal."""
    x = rng.normal(size=n)
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-x))).astype(int)
    a, b = (np.round(1 / (1 + np.exp(-x - s * rng.normal(size=n))), digits) for s in (0.5, 1.5))
    return y, both(a), both(b)


def many_classes(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    z = rng.normal(size=(n, k))
    p = np.round(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), 2)
    p[:, -1] = 1 - p[:, :-1].sum(axis=1)
    y = (z + rng.normal(size=z.shape)).argmax(axis=1)
    return y, np.clip(p, 0, 1)


def values(found: dict) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.items()}


@pytest.mark.parametrize("n", [12, 300])
def test_binary_metrics_equal_scikit_learns(rng: np.random.Generator, n: int) -> None:
    y, proba, _ = two_classes(rng, n)
    found = values(score("classification", y, proba, "proba", ("0", "1")))
    predicted = proba.argmax(axis=1)
    assert found.pop("calibration_error") >= 0
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
            "precision": sk.precision_score(y, predicted),
            "recall": sk.recall_score(y, predicted),
            "f1": sk.f1_score(y, predicted),
            "f1_macro": sk.f1_score(y, predicted, average="macro"),
            "roc_auc": sk.roc_auc_score(y, proba[:, 1]),
            "log_loss": sk.log_loss(y, proba),
            "brier": sk.brier_score_loss(y, proba[:, 1]),
        }
    )


@pytest.mark.parametrize("k", [3, 7])
def test_multiclass_metrics_equal_scikit_learns(rng: np.random.Generator, k: int) -> None:
    y, proba = many_classes(rng, 400, k)
    names = np.array([f"class {i}" for i in range(k)], dtype=object)
    found = values(score("classification", names[y], proba, "proba", tuple(names)))
    predicted = proba.argmax(axis=1)
    assert found.pop("calibration_error") >= 0
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
            "precision_macro": sk.precision_score(y, predicted, average="macro", zero_division=0),
            "recall_macro": sk.recall_score(y, predicted, average="macro"),
            "f1_macro": sk.f1_score(y, predicted, average="macro"),
            "roc_auc": sk.roc_auc_score(y, proba, multi_class="ovr"),
            "log_loss": sk.log_loss(y, proba),
            "brier": ((proba - np.eye(k)[y]) ** 2).sum(axis=1).mean(),
        }
    )


def test_slices_equal_their_rows_scored_alone(rng: np.random.Generator) -> None:
    y, proba = many_classes(rng, 500, 4)
    classes = tuple("0123")
    codes = rng.integers(-1, 5, 500)
    found = score_slices("classification", y, proba, "proba", classes, {("c",): (codes, [(str(i),) for i in range(6)])})
    assert [piece.value for piece in found] == [(str(i),) for i in range(6)]
    for i, piece in enumerate(found):
        alone = score("classification", y[codes == i], proba[codes == i], "proba", classes)
        assert piece.n == (codes == i).sum()
        for name, estimate in alone.items():
            assert piece.metrics[name].model_dump() == pytest.approx(estimate.model_dump(), abs=1e-9)


def test_regression_metrics_equal_scikit_learns(rng: np.random.Generator) -> None:
    y = rng.normal(size=200)
    output = y + rng.normal(size=200)
    assert values(score("regression", y, output, "value")) == pytest.approx(
        {
            "mae": sk.mean_absolute_error(y, output),
            "mse": sk.mean_squared_error(y, output),
            "rmse": sk.root_mean_squared_error(y, output),
            "r2": sk.r2_score(y, output),
        }
    )
    y, output = np.column_stack([y, 3 * y[::-1]]), np.column_stack([output, 3 * output])
    found = values(score("regression", y, output, "value"))
    assert found["mse"] == pytest.approx(sk.mean_squared_error(y, output))
    assert found["r2"] == pytest.approx(sk.r2_score(y, output, multioutput="variance_weighted"))


def test_quantile_outputs_are_judged_by_their_pinball_losses(rng: np.random.Generator) -> None:
    y = rng.normal(size=300)
    output = np.tile([-1.2, 0.1, 1.3], (300, 1))
    found = values(score("regression", y, output, "value", ("0.1", "0.5", "0.9")))
    for q, column in ((0.1, 0), (0.5, 1), (0.9, 2)):
        assert found[f"pinball@{q}"] == pytest.approx(sk.mean_pinball_loss(y, output[:, column], alpha=q))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, output[:, 1]))
    without_median = score("regression", y, output[:, [0, 2]], "value", ("0.1", "0.9"))
    assert without_median["mae"].value is None
    assert "median" in without_median["mae"].method
    assert without_median["pinball@0.9"].value == pytest.approx(found["pinball@0.9"])


def test_ranking_metrics_equal_scikit_learns_with_ties(rng: np.random.Generator) -> None:
    users, items = 30, 25
    relevance = rng.choice([0, 0, 0, 1, 3], size=(users, items))
    relevance[4] = 0
    scores = np.round(rng.normal(size=(users, items)) + relevance, 0)
    order = rng.permutation(users * items)
    groups = np.array([f"u{i}" for i in range(users)], dtype=object).repeat(items)[order]
    flat, flat_scores = relevance.ravel()[order], scores.ravel()[order]
    found = score("ranking", flat, flat_scores, "score", (), groups)
    counted = [u for u in range(users) if relevance[u].any()]
    expected = np.mean([sk.ndcg_score(relevance[[u]], scores[[u]], k=10) for u in counted])
    assert found["ndcg@10"].value == pytest.approx(expected)
    assert found["ndcg@10"].n == 29

    # Ties are broken at random on average: the mean over many random orders.
    simulated: dict[str, list[float]] = {"mrr": [], "recall@10": []}
    for _ in range(400):
        first, within = [], []
        for u in counted:
            ranked = relevance[u][np.lexsort((rng.uniform(size=items), -scores[u]))] > 0
            first.append(1 / (1 + ranked.argmax()))
            within.append(ranked[:10].sum() / ranked.sum())
        simulated["mrr"].append(float(np.mean(first)))
        simulated["recall@10"].append(float(np.mean(within)))
    for name, draws in simulated.items():
        assert found[name].value == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 20)
    per_user = row_metrics.row_values("ndcg@5", flat, flat_scores, (), groups)
    assert per_user.shape == row_metrics.unit_rows(flat, groups).shape == (29,)
    assert list(groups[row_metrics.unit_rows(flat, groups)]) == [u for u in dict.fromkeys(groups) if u != "u4"]


def test_accuracys_interval_is_wilsons(rng: np.random.Generator) -> None:
    y, proba, _ = two_classes(rng, 80)
    right = int((proba.argmax(axis=1) == y).sum())
    for level in (0.8, 0.95, 0.99):
        found = score("classification", y, proba, "proba", ("0", "1"), level=level)["accuracy"]
        expected = stats.binomtest(right, 80).proportion_ci(level, method="wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert found.level == level


def test_the_auc_has_delongs_variance(rng: np.random.Generator) -> None:
    y, a, b = two_classes(rng, 4000)
    # DeLong by its definition: placements of each row among those of the other class.
    placements = []
    for proba in (a, b):
        wins = (proba[y == 1, 1][:, None] > proba[y == 0, 1]) + 0.5 * (proba[y == 1, 1][:, None] == proba[y == 0, 1])
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    m, n = (y == 1).sum(), (y == 0).sum()
    covariance = np.cov(placements[0][0], placements[1][0]) / m + np.cov(placements[0][1], placements[1][1]) / n
    found = score("classification", y, a, "proba", ("0", "1"))["roc_auc"]
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(covariance[0, 0]), rel=0.01)
    gap = paired_difference("roc_auc", "classification", y, a, b, ("0", "1"))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.01)
    assert gap.value == pytest.approx(sk.roc_auc_score(y, b[:, 1]) - sk.roc_auc_score(y, a[:, 1]))
    as_scores = paired_difference("roc_auc", "classification", y, a[:, 1], b[:, 1], ("0", "1"))
    assert as_scores.model_dump() == pytest.approx(gap.model_dump())


def test_a_symmetric_means_interval_is_students_where_tails_are_light(rng: np.random.Generator) -> None:
    gaps = rng.uniform(size=25)
    gaps = np.concatenate([gaps, -gaps]) + 0.3
    found = mean_difference(np.zeros(50), gaps)
    expected = stats.t.interval(0.95, 49, loc=gaps.mean(), scale=stats.sem(gaps))
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_heavy_tails_widen_a_symmetric_means_interval(rng: np.random.Generator, level: float) -> None:
    gaps = rng.standard_t(4, size=30)
    gaps = np.concatenate([gaps, -gaps]) + 0.3
    found = mean_difference(np.zeros(60), gaps, level=level)
    t = stats.t.ppf(0.5 + level / 2, 59)
    # Cornish-Fisher's third-order term, with that of the estimated skewness.
    wider = 1 + stats.kurtosis(gaps, bias=False) * (3 * t**2 + 5) / 12 / 60
    assert wider > 1.01
    half = t * stats.sem(gaps) * wider
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))


@pytest.mark.parametrize("scale", [1e-90, 1.0, 1e90])
def test_a_means_interval_moves_with_the_values_units(rng: np.random.Generator, scale: float) -> None:
    values = rng.exponential(size=40)
    one = mean_difference(np.zeros(40), values)
    other = mean_difference(np.zeros(40), scale * values)
    assert (other.low, other.high) == pytest.approx((scale * one.low, scale * one.high), rel=1e-9, abs=0)


def test_repeating_rows_narrows_the_interval_unless_they_are_one_unit(rng: np.random.Generator) -> None:
    y, a, b = two_classes(rng, 300)
    units = np.arange(300)
    for name in ("accuracy", "recall", "f1_macro", "roc_auc", "log_loss", "brier", "calibration_error"):
        once = score("classification", y, a, "proba", ("0", "1"), units)[name]
        repeated = score("classification", y.repeat(4), a.repeat(4, axis=0), "proba", ("0", "1"), units.repeat(4))[name]
        naive = score("classification", y.repeat(4), a.repeat(4, axis=0), "proba", ("0", "1"))[name]
        if name != "calibration_error":  # there repeated rows move the noise that is subtracted
            assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.02)
        assert naive.high - naive.low < 0.7 * (once.high - once.low)
        gap = paired_difference(name, "classification", y, a, b, ("0", "1"), units)
        wide = paired_difference(
            name, "classification", y.repeat(4), a.repeat(4, axis=0), b.repeat(4, axis=0), ("0", "1"), units.repeat(4)
        )
        assert wide.high - wide.low == pytest.approx(gap.high - gap.low, rel=0.4)


def test_paired_differences_are_the_differences_of_the_scores(rng: np.random.Generator) -> None:
    y, a, b = two_classes(rng, 400)
    names = [info.name for info in available("classification", 2)]
    codes = rng.integers(0, 3, 400)
    found = paired_differences(names, "classification", y, a, b, codes, 3, ("0", "1"))
    for slice_ in range(3):
        rows = codes == slice_
        one = score("classification", y[rows], a[rows], "proba", ("0", "1"))
        other = score("classification", y[rows], b[rows], "proba", ("0", "1"))
        for name in names:
            gap = found[name][slice_]
            assert gap.value == pytest.approx(other[name].value - one[name].value)
            assert gap.low < gap.value < gap.high
            back = paired_difference(name, "classification", y[rows], b[rows], a[rows], ("0", "1"))
            assert (-back.high, -back.low) == pytest.approx((gap.low, gap.high))


def test_row_values_mean_is_the_metric(rng: np.random.Generator) -> None:
    y, proba = many_classes(rng, 200, 3)
    found = score("classification", y, proba, "proba", ("0", "1", "2"))
    for name in ("accuracy", "log_loss", "brier"):
        assert row_metrics.row_values(name, y, proba, ("0", "1", "2")).mean() == pytest.approx(found[name].value)
    labels = proba.argmax(axis=1)
    assert row_metrics.row_values("accuracy", y, labels, ("0", "1", "2")).mean() == pytest.approx(
        found["accuracy"].value
    )


@pytest.mark.parametrize(
    ("name", "target", "constant"),
    [
        ("log_loss", np.array([0, 0, 0, 1]), np.tile([0.75, 0.25], (4, 1))),
        ("brier", np.array([0, 0, 0, 1]), np.tile([0.75, 0.25], (4, 1))),
        ("mse", np.array([1.0, 2.0, 6.0]), np.full(3, 3.0)),
        ("mae", np.array([1.0, 2.0, 6.0]), np.full(3, 2.0)),
        ("pinball@0.5", np.array([1.0, 2.0, 6.0]), np.full(3, 2.0)),
    ],
)
def test_utility_is_one_half_for_the_constant_prediction(name: str, target: np.ndarray, constant: np.ndarray) -> None:
    values = row_metrics.row_values(name, target, constant, ("0", "1"))
    utility, baseline = row_metrics.utility(name, values, target, ("0", "1"))
    assert baseline == pytest.approx(values.mean())
    assert utility.mean() == pytest.approx(0.5)
    assert row_metrics.utility(name, np.zeros(4), target, ("0", "1"))[0] == pytest.approx(np.ones(4))


def test_metrics_in_the_unit_interval_are_their_own_utility() -> None:
    utility, baseline = row_metrics.utility("ndcg@10", np.array([0.2, 0.9]), np.array([1, 0]))
    assert utility.tolist() == [0.2, 0.9]
    assert baseline is None


def test_log_loss_clips_probabilities() -> None:
    values = row_metrics.row_values("log_loss", np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), ("0", "1"))
    assert values == pytest.approx([36.0437, 0.0], abs=1e-4)


def test_labels_are_matched_as_text() -> None:
    proba = np.array([[0.9, 0.1], [0.2, 0.8]])
    for target in (np.array([0, 1]), np.array([0.0, 1.0]), np.array([False, True]), np.array(["0", "1"], dtype=object)):
        assert row_metrics.row_values("accuracy", target, proba, ("0", "1")).tolist() == [1.0, 1.0]
    assert row_metrics.row_values("accuracy", np.array([False, True]), proba, ("False", "True")).tolist() == [1.0, 1.0]


def test_wrong_input_is_one_clear_error() -> None:
    proba = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(InvalidInput, match=r"label '2'.*0, 1"):
        score("classification", np.array([0, 2]), proba, "proba", ("0", "1"))
    with pytest.raises(InvalidInput, match="without a label"):
        score("classification", np.array(["0", None], dtype=object), proba, "proba", ("0", "1"))
    with pytest.raises(InvalidInput, match=r"sum to 1"):
        score("classification", np.array([0, 1]), 2 * proba, "proba", ("0", "1"))
    with pytest.raises(InvalidInput, match=r"shape \(2, 2\), expected \(2, 3\)"):
        score("classification", np.array([0, 1]), proba, "proba", ("0", "1", "2"))
    with pytest.raises(InvalidInput, match="3 targets and 2 outputs"):
        score("classification", np.array([0, 1, 1]), proba, "proba", ("0", "1"))
    with pytest.raises(InvalidInput, match="user column"):
        score("ranking", np.array([0, 1]), np.array([0.1, 0.2]), "score")
    with pytest.raises(UnknownMetric, match="Did you mean 'roc_auc'"):
        metric("classification", "rocauc")
    with pytest.raises(UnknownMetric):
        metric("ranking", "ndcg@0")
    with pytest.raises(MetricNotByRow, match="log_loss"):
        row_metrics.row_values("roc_auc", np.array([0, 1]), proba, ("0", "1"))
    with pytest.raises(BaselineUndefined):
        row_metrics.utility("mse", np.array([1.0]), np.array([2.0, 2.0]))

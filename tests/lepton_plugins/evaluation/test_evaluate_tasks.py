"""Evaluating other tasks than probabilities of two classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lepton_mlflow.registry import MlflowRegistry

from .conftest import QUICK, Register, predictions_of, run, save_estimator


def test_a_classifier_without_probabilities_is_scored_by_its_labels(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import RidgeClassifier

    model = RidgeClassifier().fit(flights[["x0", "x1"]], flights.late)
    register(save_estimator(model, tmp_path / "ridge.pkl"))
    (report,) = run(own, flights[["x0", "x1", "late"]])
    assert report.output == "label"
    assert report.metrics["accuracy"].value == pytest.approx(model.score(flights[["x0", "x1"]], flights.late))
    assert report.metrics["roc_auc"].value is None
    assert any("scored by its labels" in note and "no predict_proba" in note for note in report.notes)


def test_three_classes_by_name_with_a_class_that_the_model_never_saw(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression

    data = flights.assign(when=np.select([flights.x0 > 0.5, flights.x0 < -0.5], ["late", "early"], "on time"))
    features = ["x0", "x1"]
    whole = LogisticRegression().fit(data[features], data.when)
    part = LogisticRegression().fit(*(data[data.when != "early"][columns] for columns in (features, "when")))
    for index, model in enumerate((whole, part)):
        register(save_estimator(model, tmp_path / f"{index}.pkl"))
    first, second = run(own, data[[*features, "when"]], target="when")
    assert first.classes == second.classes == ("early", "late", "on time")
    assert first.metrics["log_loss"].value == pytest.approx(sk.log_loss(data.when, whole.predict_proba(data[features])))
    assert first.metrics["f1_macro"].value == pytest.approx(
        sk.f1_score(data.when, whole.predict(data[features]), average="macro")
    )
    assert any("early" in note for note in second.notes)
    assert second.metrics["accuracy"].value == pytest.approx(sk.accuracy_score(data.when, part.predict(data[features])))


def test_regression_and_quantiles(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import LinearRegression

    data = flights[["x0", "x1"]].assign(delay=flights.x0 * 3 + np.random.default_rng(5).normal(size=len(flights)))
    model = LinearRegression().fit(data[["x0", "x1"]], data.delay)

    class Quantiles:
        def predict(self, rows: pd.DataFrame) -> Any:
            return np.stack([rows.x0 * 3 - 1.28, rows.x0 * 3, rows.x0 * 3 + 1.28], axis=1)

    register(save_estimator(model, tmp_path / "m.pkl"))
    register(save_estimator(Quantiles(), tmp_path / "q.pkl"))
    options = QUICK.model_copy(update={"quantiles": (0.1, 0.5, 0.9)})
    plain, quantiles = run(own, data, target="delay", task="regression", options=options)
    predicted = model.predict(data[["x0", "x1"]])
    assert plain.output == "value"
    assert plain.metrics["rmse"].value == pytest.approx(sk.root_mean_squared_error(data.delay, predicted))
    assert plain.metrics["r2"].value == pytest.approx(sk.r2_score(data.delay, predicted))
    assert quantiles.classes == ("0.1", "0.5", "0.9")
    high = sk.mean_pinball_loss(data.delay, data.x0 * 3 + 1.28, alpha=0.9)
    assert quantiles.metrics["pinball@0.9"].value == pytest.approx(high)
    assert predictions_of(own, quantiles, tmp_path).output.shape == (len(data), 3)


def test_a_ranking_is_scored_by_user(own: MlflowRegistry, register: Register, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    users, items = 80, 12
    data = pd.DataFrame(
        {"user": np.repeat([f"u{i}" for i in range(users)], items), "x0": rng.normal(size=users * items)}
    )
    data["liked"] = (data.x0 + rng.normal(size=len(data)) > 1).astype(float)

    class Scores:
        def predict(self, rows: pd.DataFrame) -> Any:
            return rows.x0.to_numpy()

    register(save_estimator(Scores(), tmp_path / "m.pkl"))
    options = QUICK.model_copy(update={"group": "user"})
    (report,) = run(own, data, target="liked", task="ranking", options=options)
    assert report.output == "score"
    by_user = [sk.ndcg_score([one.liked], [one.x0], k=10) for _, one in data.groupby("user") if one.liked.any()]
    assert report.metrics["ndcg@10"].value == pytest.approx(np.mean(by_user))
    assert len(np.unique(predictions_of(own, report, tmp_path).groups)) == users

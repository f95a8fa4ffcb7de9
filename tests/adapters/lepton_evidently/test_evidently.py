"""Evidently's report of real predictions: files, figures that are right, and none that aren't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lepton_evidently.evaluator import EvidentlyEvaluator, sample
from lepton_evidently.figures import checked_figures
from lepton_plugins.errors import InvalidInput
from lepton_plugins.plugins import plugins
from lepton_plugins.records.report import Dataset, EvaluationReport, Task


def report(task: Task, output: Any, classes: tuple[str, ...] = ()) -> EvaluationReport:
    return EvaluationReport(
        model="flights <b>",
        version="3",
        dataset=Dataset(name="june", digest="sha256:0", rows=1),
        task=task,
        target="y",
        output=output,
        classes=classes,
    )


def binary(rows: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    p = rng.random(rows)
    y = (rng.random(rows) < p).astype(int).astype(str)
    label = pd.Categorical(np.where(p > 0.5, "1", "0"), categories=["0", "1"])
    return pd.DataFrame(
        {"row_id": np.arange(rows), "target": y, "prediction": label, "proba_0": 1 - p, "proba_1": p, "carrier": "AA"}
    )


def write(asked: EvaluationReport, rows: pd.DataFrame, to: Path, **more: Any) -> tuple[str, dict[str, Any]]:
    files = EvidentlyEvaluator(**more).evaluate(asked, rows, to)
    assert set(files) == {"evidently.html", "evidently.json"}
    return files["evidently.html"].read_text(), json.loads(files["evidently.json"].read_text())


def test_it_is_found_as_an_evaluator() -> None:
    assert plugins().load("evaluator", "evidently") is EvidentlyEvaluator


def test_two_classes_sampled(tmp_path: Path) -> None:
    rows = binary()
    html, found = write(report("classification", "proba", ("0", "1")), rows, tmp_path, most_rows=1000)
    assert (found["rows"], found["rows_evaluated"]) == (1000, 1500)
    taken = sample(rows, report("classification", "proba", ("0", "1")), 1000)
    assert found["figures"]["RocAuc"] == pytest.approx(sk.roc_auc_score(taken.target == "1", taken.proba_1))
    assert found["figures"]["Accuracy"] == pytest.approx((taken.target == taken.prediction.astype(str)).mean())
    assert found["figures"]["F1ByLabel"]["0"] == pytest.approx(sk.f1_score(taken.target == "0", taken.proba_0 >= 0.5))
    assert found["left_out"] == []
    assert "1,000 rows (a random sample of 1,500)" in html
    assert "flights &lt;b&gt; version 3" in html
    assert "flights <b>" not in html
    assert len(html) > 1_000_000, "self-contained"


def test_three_classes_one_called_as_a_column(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes = ("target", "b", "c")
    p = rng.dirichlet([1, 1, 1], 800)
    y = [classes[rng.choice(3, p=row)] for row in p]
    rows = pd.DataFrame({"row_id": range(800), "target": y, "prediction": np.array(classes)[p.argmax(1)]})
    for index, name in enumerate(classes):
        rows[f"proba_{name}"] = p[:, index]
    _, found = write(report("classification", "proba", classes), rows, tmp_path)
    assert found["figures"]["Accuracy"] == pytest.approx((rows.target == rows.prediction).mean())
    assert found["figures"]["F1Score"] == pytest.approx(sk.f1_score(y, rows.prediction, average="macro"))


def test_labels_only_and_regression(tmp_path: Path) -> None:
    rows = binary().drop(columns=["proba_0", "proba_1"])
    _, found = write(report("classification", "label", ("0", "1")), rows, tmp_path)
    assert "RocAuc" not in found["figures"]
    assert found["figures"]["Recall"] == pytest.approx(sk.recall_score(rows.target == "1", rows.prediction == "1"))

    rng = np.random.default_rng(0)
    target = rng.normal(size=1000)
    rows = pd.DataFrame({"row_id": range(1000), "target": target, "prediction": target + rng.normal(size=1000)})
    html, found = write(report("regression", "value"), rows, tmp_path)
    assert found["figures"]["RMSE"] == pytest.approx(sk.root_mean_squared_error(rows.target, rows.prediction))
    assert found["figures"]["MAE"]["mean"] == pytest.approx(sk.mean_absolute_error(rows.target, rows.prediction))
    assert found["figures"]["R2Score"] == pytest.approx(sk.r2_score(rows.target, rows.prediction))
    assert "MAPE" not in html, "which explodes near zero"


def test_a_ranking_has_the_figure_at_ten(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users, items = 150, 14
    rows = pd.DataFrame(
        {
            "row_id": np.arange(users * items),
            "target": (rng.random(users * items) < 0.2).astype(float),
            "prediction": rng.random(users * items),
            "group": np.repeat(np.arange(users), items),
        }
    )
    _, found = write(report("ranking", "score"), rows, tmp_path)
    ndcg = np.mean(
        [sk.ndcg_score([u.target], [u.prediction], k=10) for _, u in rows.groupby("group") if u.target.any()]
    )
    assert found["figures"]["NDCG"] == pytest.approx(ndcg)
    assert {"RecallTopK", "PrecisionTopK", "MRR"} <= set(found["figures"])
    part = sample(rows, report("ranking", "score"), 500)
    assert len(part) == 490, "whole users"
    assert part.groupby("group").size().eq(items).all()


def test_wrong_and_undefined_figures_are_not_passed_on() -> None:
    rows = binary()
    accuracy = (rows.target == rows.prediction.astype(str)).mean()
    metrics = [
        {"config": {"type": "evidently:metric_v2:Accuracy"}, "value": float(accuracy) + 0.01},
        {"config": {"type": "evidently:metric_v2:RocAuc"}, "value": float("nan")},
        {"config": {"type": "evidently:metric_v2:TPR"}, "value": np.float64(0.5)},
        {
            "config": {"type": "evidently:metric_v2:PrecisionTopK", "k": 2},
            "value": {"rank": {0: 1, 1: 2, 2: 3}, "value": {0: 0.1, 1: 0.2, 2: 0.3}},
        },
    ]
    figures, left_out = checked_figures(report("classification", "proba", ("0", "1")), rows, metrics)
    assert figures == {"TPR": 0.5, "PrecisionTopK": 0.2}
    reasons = {item["name"]: item["reason"] for item in left_out}
    assert f"Lepton measures {accuracy:.6g}" in reasons["Accuracy"]
    assert reasons["RocAuc"] == "it is undefined on these rows"


def test_one_class_in_the_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="one class only"):
        EvidentlyEvaluator().evaluate(
            report("classification", "proba", ("0", "1")), binary().assign(target="1"), tmp_path
        )


def test_loading_the_plugin_does_not_import_evidently() -> None:
    script = (
        "import sys; from lepton_plugins.plugins import plugins; plugins().load('evaluator', 'evidently')()\n"
        "print([name for name in ('evidently', 'pandas', 'plotly', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

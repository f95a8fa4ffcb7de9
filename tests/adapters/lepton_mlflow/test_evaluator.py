"""MLflow's evaluator `lepton`: opt-in only, Lepton's figures on the run and on the registered version."""

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
from sklearn.linear_model import LinearRegression, LogisticRegression

import lepton_mlflow.evaluator as entry
from lepton_mlflow.evaluator import LeptonEvaluator
from lepton_mlflow.registry import MlflowRegistry


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=400) for i in range(3)})
    frame["carrier_code"] = rng.integers(0, 3, 400).astype(float)
    frame["late"] = (frame.x0 + rng.logistic(size=400) > 0).astype(int)
    return frame


@pytest.fixture
def tracking(sqlite_uri: str) -> str:
    """MLflow's own setting points at this test's registry."""
    import mlflow

    mlflow.set_tracking_uri(sqlite_uri)
    mlflow.set_experiment("evaluations")
    return sqlite_uri


def log(model: Any, data: pd.DataFrame, name: str | None = None) -> Any:
    import mlflow
    from mlflow.models import infer_signature

    with mlflow.start_run():
        return mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            signature=infer_signature(data, np.array([0, 1])),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )


def inputs(data: pd.DataFrame) -> pd.DataFrame:
    return data[["x0", "x1", "x2", "carrier_code"]]


def evaluate(model: Any, data: Any, **more: Any) -> tuple[Any, str]:
    import mlflow

    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(model, data, **{"targets": "late", "model_type": "classifier", **more})
    return result, run.info.run_id


def test_a_plain_evaluation_is_as_without_lepton(
    tracking: str, data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry as evaluators

    assert evaluators._registry["lepton"] is LeptonEvaluator
    info = log(LogisticRegression().fit(inputs(data), data.late), inputs(data))
    quiet = {"evaluator_config": {"log_model_explainability": False, "log_explainer": False}}
    client = mlflow.MlflowClient()

    def observe() -> tuple[Any, ...]:
        result, run_id = evaluate(info.model_uri, data, **quiet)
        run = client.get_run(run_id)
        metrics = {name: value for name, value in result.metrics.items() if "time" not in name}
        listed = sorted(item.path for item in client.list_artifacts(run_id))
        tags = sorted(name for name in run.data.tags if "lepton" in name)
        return metrics, sorted(result.artifacts), sorted(run.data.metrics), listed, tags

    with_lepton = observe()
    monkeypatch.delitem(evaluators._registry, "lepton")
    assert observe() == with_lepton
    assert not any("lepton" in name for part in with_lepton for name in part)


def test_it_evaluates_where_it_is_asked_for_only() -> None:
    def can(config: dict[str, Any] | None, model_type: str = "classifier") -> bool:
        return LeptonEvaluator.can_evaluate(model_type=model_type, evaluator_config=config)

    assert not can({})
    assert not can(None)
    assert not can({"pos_label": 1, "metric_prefix": "lepton"})
    assert can({"enabled": True})


def test_by_name_it_logs_figures_with_intervals_and_reports_on_the_version(tracking: str, data: pd.DataFrame) -> None:
    import mlflow

    model = LogisticRegression().fit(inputs(data), data.late)
    log(model, inputs(data), "flights")
    result, run_id = evaluate(
        "models:/flights/1", data, evaluators="lepton", evaluator_config={"slices": ["carrier_code"], "level": 0.9}
    )
    auc = sk.roc_auc_score(data.late, model.predict_proba(inputs(data))[:, 1])
    assert result.metrics["lepton/roc_auc"] == pytest.approx(auc), "probabilities, where its pyfunc gives labels"
    assert result.metrics["lepton/roc_auc/low"] < auc < result.metrics["lepton/roc_auc/high"]
    client = mlflow.MlflowClient()
    assert client.get_run(run_id).data.metrics["lepton/roc_auc"] == pytest.approx(auc)
    assert {item.path for item in client.list_artifacts(run_id, "lepton")} == {
        "lepton/report.json",
        "lepton/predictions.parquet",
        "lepton/chart.png",
    }
    written = json.loads(Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/lepton/report.json")).read_text())
    assert result.artifacts["lepton/report.json"].content == written
    report = MlflowRegistry(tracking).get_report("flights", "1")
    assert report is not None
    assert report.metrics["roc_auc"].value == pytest.approx(auc)
    assert report.metrics["roc_auc"].level == 0.9
    assert len(report.slices) == 3
    assert report.artifact_digest == MlflowRegistry(tracking).get_version("flights", "1").artifact_digest
    assert (report.backend, report.format) == ("pyfunc", "cloudpickle")


def test_beside_the_default_evaluator_and_by_its_marker(tracking: str, data: pd.DataFrame) -> None:
    info = log(LogisticRegression().fit(inputs(data), data.late), inputs(data))
    both = {
        "default": {"log_model_explainability": False, "log_explainer": False},
        "lepton": {"slices": ["carrier_code"]},
    }
    result, _ = evaluate(info.model_uri, data, evaluators=["default", "lepton"], evaluator_config=both)
    assert result.metrics["lepton/accuracy"] == pytest.approx(result.metrics["accuracy_score"])
    marked = {**both, "lepton": {"enabled": True}}
    result, _ = evaluate(info.model_uri, data, evaluator_config=marked)
    assert result.metrics["lepton/log_loss"] > 0
    assert "accuracy_score" in result.metrics, "the default evaluator ran as well"


def test_regression_and_predictions_made_before(tracking: str, data: pd.DataFrame) -> None:
    target = data.x0 * 2 + data.x1
    info = log(LinearRegression().fit(inputs(data), target + data.x2), inputs(data))
    frame = inputs(data).assign(delay=target)
    result, _ = evaluate(info.model_uri, frame, targets="delay", model_type="regressor", evaluators="lepton")
    assert result.metrics["lepton/rmse"] > 0
    given = pd.DataFrame({"late": data.late, "answer": data.x0 > 0}).astype(int)
    result, _ = evaluate(None, given, predictions="answer", evaluators="lepton")
    assert result.metrics["lepton/accuracy"] == pytest.approx(sk.accuracy_score(given.late, given.answer))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"evaluator_config": {"slicse": ["x0"]}}, "slicse"),
        ({"evaluator_config": {"slices": ["x0"]}}, "x0:4"),
        ({"model_type": "text"}, "can't tell the task"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_of_mlflow_in_lepton_s_words(
    tracking: str, data: pd.DataFrame, more: dict[str, Any], says: str
) -> None:
    from mlflow.exceptions import MlflowException

    given = data[["x0", "late"]].assign(answer=1)
    with pytest.raises(MlflowException, match=says):
        evaluate(None, given, predictions="answer", evaluators="lepton", **more)


def test_importing_mlflow_loads_the_entry_point_and_little_else() -> None:
    script = (
        "import mlflow.models.evaluation, sys\n"
        "from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry as r\n"
        "assert 'lepton' in r._registry, 'registered'\n"
        "r.get_evaluator('lepton')\n"
        "print(sorted(name for name in sys.modules if name.startswith('lepton')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "lepton" not in done.stderr, done.stderr
    assert done.stdout.strip() == "['lepton_mlflow', 'lepton_mlflow.evaluator']"
    assert entry.__doc__ is not None
    assert 'evaluators="lepton"' in entry.__doc__

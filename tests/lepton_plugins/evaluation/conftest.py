"""Flights-like data, small real models trained on it, and a registry that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.evaluation.predictions import read_predictions
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion

FEATURES = ["x0", "x1", "x2", "distance"]
#: What the fixture `register` gives.
Register = Callable[..., ModelVersion]
QUICK = EvaluationOptions(cost=False, trust="pickle", dataset_name="june")


def run(registry: MlflowRegistry, data: Any, **more: Any) -> list[EvaluationReport]:
    """Evaluate `flights`, by default quickly and as the classification of `late`."""
    asked = {"target": "late", "task": "classification", "options": QUICK, **more}
    return evaluate(registry, "flights", data, **asked)


def predictions_of(registry: MlflowRegistry, report: EvaluationReport, to: Path) -> Any:
    path = registry.get_report_file(report, "predictions.parquet", to)
    assert path is not None
    return read_predictions(path, report)


def make_flights(rows: int, seed: int) -> pd.DataFrame:
    """Late or not, by three numbers and a distance; carrier UA follows x1, the others don't."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({f"x{i}": rng.normal(size=rows) for i in range(3)})
    data["distance"] = rng.gamma(2, 300, size=rows).round()
    data["carrier"] = rng.choice(["AA", "UA", "DL"], size=rows, p=[0.5, 0.3, 0.2])
    data["origin"] = rng.choice(["JFK", "LGA"], size=rows)
    logit = data.x0 + data.x1 * (data.carrier == "UA") + 0.002 * (data.distance - 600)
    data["late"] = (logit + rng.logistic(size=rows) > 0).astype(int)
    return data


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    return make_flights(3000, 1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files: `linear` and `trees` (ONNX), `bare` (a pickle); MLflow directories with signature: `signed`,
    and `weak`, which knows one feature only.
    """
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = tmp_path_factory.mktemp("trained")
    data = make_flights(3000, 0)
    matrix = data[FEATURES].to_numpy("float32")
    found = {}
    for name, model in (
        ("linear", LogisticRegression()),
        ("trees", GradientBoostingClassifier(n_estimators=20, random_state=0)),
    ):
        pipeline = make_pipeline(StandardScaler(), model).fit(matrix, data.late)
        found[name] = folder / f"{name}.onnx"
        graph = to_onnx(pipeline, matrix[:1], options={"zipmap": False})
        found[name].write_bytes(graph.SerializeToString())
    for name, columns in (("signed", FEATURES), ("weak", ["x1"])):
        found[name] = folder / name
        mlflow.sklearn.save_model(
            make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(data[columns], data.late),
            str(found[name]),
            signature=infer_signature(data[columns], data.late),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],  # Finding them out takes a process and 5 s.
        )
    found["bare"] = save_estimator(LogisticRegression().fit(data[["x0", "x1"]], data.late), folder / "bare.pkl")
    return found


def save_estimator(estimator: Any, path: Path) -> Path:
    """A pickle that holds its class by value, so that any process can load it."""
    import cloudpickle

    path.write_bytes(cloudpickle.dumps(estimator))
    return path


@pytest.fixture
def own(sqlite_uri: str) -> MlflowRegistry:
    """A registry of this test's own."""
    return MlflowRegistry(sqlite_uri)


@pytest.fixture
def register(own: MlflowRegistry) -> Register:
    """Registers a file as the next version of `flights`."""

    def register(path: Path, label: str | None = None, framework: str | None = None) -> ModelVersion:
        kind = framework or ("onnx" if path.suffix == ".onnx" else "sklearn" if path.suffix == ".pkl" else None)
        return own.register("flights", path, framework=kind, label=label, metadata={})

    return register


def answering(proba: Callable[[pd.DataFrame], Any], *, on_load: Callable[[], None] | None = None) -> Any:
    """An estimator of two classes that answers with `proba(rows)`; `on_load` runs when it is unpickled."""

    class Answering:
        classes_ = np.array([0, 1])

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state)
            if self.hook is not None:
                self.hook()

        def predict_proba(self, rows: pd.DataFrame) -> Any:
            return self.answer(rows)

        def predict(self, rows: pd.DataFrame) -> Any:
            return np.asarray(self.answer(rows)).argmax(axis=1)

    made = Answering()
    made.answer, made.hook = proba, on_load  # type: ignore[attr-defined]
    return made

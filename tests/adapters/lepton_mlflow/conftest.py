"""Small real models in files, and records to store."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_plugins.canonical import digest_bytes
from lepton_plugins.records.plan import (
    Activation,
    Allocation,
    Arm,
    DeploymentPlan,
    FileDigest,
    Gain,
    PolicyDocument,
    Rejection,
)
from lepton_plugins.records.report import (
    BatchLatency,
    Dataset,
    Estimate,
    EvaluationReport,
    Quantity,
    Resources,
    Slice,
)
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.records.version import ModelVersion


@pytest.fixture
def client(registry: Any) -> Any:
    """MLflow's own client of the registry."""
    from mlflow import MlflowClient

    return MlflowClient(registry.uri, registry.uri)


def _classifier() -> tuple[Any, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).random((200, 3)).astype("float32")
    return LogisticRegression().fit(rows, rows[:, 0] > 0.5), rows


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One logistic regression as model.onnx, model.pkl, model.joblib, small.joblib and model.skops."""
    import joblib
    import skops.io
    from skl2onnx import to_onnx

    folder = tmp_path_factory.mktemp("models")
    model, rows = _classifier()
    graph = to_onnx(model, rows[:1], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    joblib.dump(model, folder / "model.joblib")
    joblib.dump(model, folder / "small.joblib", compress=3)
    skops.io.dump(model, folder / "model.skops")
    return folder


@pytest.fixture(scope="session")
def onnx_file(model_folder: Path) -> Path:
    return model_folder / "model.onnx"


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """A SavedModel directory as TensorFlow writes it, as far as can be seen without TensorFlow."""
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x0fserving_default")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"data")
    return folder


@pytest.fixture
def register(registry: Any, model_name: str, onnx_file: Path) -> Callable[..., ModelVersion]:
    """Registers the ONNX model once more."""

    def again(label: str | None = None, **metadata: str) -> ModelVersion:
        version: ModelVersion = registry.register(
            model_name, onnx_file, framework="onnx", label=label, metadata=metadata
        )
        return version

    return again


def make_report(version: ModelVersion, log_loss: float = 0.431, **changes: Any) -> EvaluationReport:
    def estimate(value: float, greater: bool = False) -> Estimate:
        return Estimate(
            value=value, low=value - 0.01, high=value + 0.01, method="bootstrap", n=12000, greater_is_better=greater
        )

    report = EvaluationReport(
        model=version.model,
        version=version.version,
        label=version.label,
        artifact_digest=version.artifact_digest,
        dataset=Dataset(name="flights-2013", digest=digest_bytes(b"rows"), rows=12000),
        task="classification",
        target="late",
        output="proba",
        classes=("0", "1"),
        metrics={"log_loss": estimate(log_loss), "roc_auc": estimate(0.712, True), "accuracy": estimate(0.8, True)},
        slices=(Slice(by=("carrier",), value=("AA",), n=300, metrics={"log_loss": estimate(log_loss + 0.1)}),),
        latency=(BatchLatency(batch_size=1, p50_ms=0.05, p95_ms=0.07, p99_ms=0.1, rows_per_second=18000),),
        resources=Resources(artifact_bytes=4096, peak_memory=Quantity(value=9e7, how="measured")),
        evaluated_at="2026-01-02T03:04:05+00:00",
    )
    return report.model_copy(update=changes)


@pytest.fixture(scope="session")
def report_of() -> Callable[..., EvaluationReport]:
    return make_report


def make_plan(model: str, salt: str = "00", parent: str | None = None, arms: int = 2) -> tuple[DeploymentPlan, dict]:
    table = b'{"AA": [0.4, 0.6]}'
    signature = Signature(inputs=(Field(name="X", dtype="float32"),))
    plan = DeploymentPlan(
        model=model,
        parent=parent,
        salt=salt,
        output="proba",
        classes=("0", "1"),
        signature=signature,
        arms=tuple(
            Arm(
                version=str(number),
                label=f"v{number}",
                uri=f"models:/{model}/{number}",
                artifact_digest=digest_bytes(bytes(number)),
                framework="onnx",
                backend="onnxruntime",
                format="onnx",
                share=1 / arms,
            )
            for number in range(1, arms + 1)
        ),
        default="1",
        policy=PolicyDocument(
            kind="segment_best", files=(FileDigest(path="tables/cells.json", digest=digest_bytes(table)),)
        ),
        allocation=Allocation(solver="milp", status="optimal"),
        gain=Gain(metric="log_loss", value=0.012, low=0.004, high=0.02, method="cross-fitted", n=12000),
        rejected=(Rejection(version="9", code="no_report", reason="no report"),),
        spec=PlanSpec(model=model),
    )
    return plan, {"tables/cells.json": table}


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., tuple[DeploymentPlan, dict[str, bytes]]]:
    return make_plan


def make_activation(plan: DeploymentPlan, number: int, **changes: Any) -> Activation:
    activation = Activation(
        model=plan.model,
        action="promote",
        from_digest=plan.parent,
        to_digest=plan.digest,
        to_number=number,
        who="ada",
        why="better on every carrier",
        evidence={"reports": {"1": "run"}},
        at="2026-01-02T03:04:05+00:00",
    )
    return activation.model_copy(update=changes)


@pytest.fixture(scope="session")
def activation_of() -> Callable[..., Activation]:
    return make_activation

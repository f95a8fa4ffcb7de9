"""What MLflow's evaluator `lepton` does: Lepton's evaluation of a model that MLflow has loaded."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.artifacts import ImageEvaluationArtifact, JsonEvaluationArtifact
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from lepton_mlflow.backend import PyfuncBackend
from lepton_mlflow.backend_models import EstimatorModel, PyfuncModel
from lepton_plugins.errors import LeptonError, OutputUnavailable, VersionNotFound
from lepton_plugins.evaluation.candidate import Candidate
from lepton_plugins.evaluation.evaluate import make_setting
from lepton_plugins.evaluation.features import model_inputs
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.evaluation.trial import Setting, Trial
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.report import EvaluationReport, Task
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry, open_registry
from lepton_plugins.routing import outputs
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.loading import find_backend
from lepton_plugins.routing.mlmodel import signature_from_mlflow

if TYPE_CHECKING:
    from mlflow.data.evaluation_dataset import EvaluationDataset

_TASKS: Mapping[str, Task] = {"classifier": "classification", "regressor": "regression", "retriever": "ranking"}


class EvaluatorConfig(Record):
    """`evaluator_config` of `mlflow.models.evaluate(evaluators="lepton")`, strict."""

    task: Task | None = None
    slices: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    group: str | None = None
    positive: str | None = None
    level: float = Field(default=0.95, gt=0, lt=1)
    dataset_name: str | None = None
    model: str | None = None
    version: VersionNumber | None = None


def evaluate_run(
    *,
    model_type: str | None,
    dataset: EvaluationDataset,
    run_id: str,
    config: Mapping[str, Any],
    model: Any,
    model_id: str | None,
) -> EvaluationResult:
    """Evaluate, log on the run, and store the report of the registered version if there is one."""
    try:
        asked = EvaluatorConfig.model_validate(config)
    except ValidationError as error:
        raise _refused(f"evaluator_config of lepton: {validation_lines(error)}") from None
    task = asked.task or _TASKS.get(model_type or "")
    if task is None:
        found = f"model_type {model_type!r}"
        raise _refused(f"lepton can't tell the task: found {found}, expected evaluator_config={{'task': …}}")
    try:
        registry = open_registry()
        version = _registered(registry, asked, model, model_id)
        frame, target = _frame(dataset)
        setting = make_setting(
            registry,
            frame,
            target=target,
            task=task,
            slices=asked.slices,
            context=asked.context,
            options=EvaluationOptions(
                cost=False,
                dataset_name=asked.dataset_name or _dataset_name(dataset),
                group=asked.group,
                positive=asked.positive,
                level=asked.level,
            ),
        )
        with tempfile.TemporaryDirectory(prefix="lepton-") as folder:
            shown = version or ModelVersion(
                model=f"run {run_id[:8]}", version=model_id or run_id, uri=f"runs:/{run_id}", label=None
            )
            candidate = _candidate(setting, shown, version is not None, dataset, model, Path(folder))
            trial = Trial(setting, candidate, Path(folder) / "report")
            trial.predict()
            trial.score()
            trial.write()
            if trial.report.failure is not None:
                raise _refused(trial.report.failure.reason)
            report = trial.store() if version is not None else trial.report
            return _log(report, trial.files, run_id, model_id, dataset)
    except LeptonError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _frame(dataset: EvaluationDataset) -> tuple[pd.DataFrame, str]:
    """Features and target as one table."""
    features = dataset.features_data
    if not isinstance(features, pd.DataFrame):
        features = pd.DataFrame(np.asarray(features), columns=[str(name) for name in dataset.feature_names])
    if not dataset.has_targets:
        raise _refused("lepton needs labels: pass targets to mlflow.models.evaluate.")
    target = str(dataset.targets_name or "target")
    return features.assign(**{target: np.asarray(dataset.labels_data)}).reset_index(drop=True), target


def _dataset_name(dataset: EvaluationDataset) -> str:
    # Without a name MLflow uses the hash, under which no two evaluations would be found together.
    return "data" if dataset.name == dataset.hash else str(dataset.name)


def _registered(registry: Registry, asked: EvaluatorConfig, model: Any, model_id: str | None) -> ModelVersion | None:
    """The registered version that is evaluated: as told, else the only one with the model's id."""
    if asked.model is not None and asked.version is not None:
        return registry.get_version(asked.model, asked.version)
    known = model_id or getattr(model, "model_id", None) or getattr(getattr(model, "metadata", None), "model_id", None)
    if not known:
        return None
    found = mlflow.MlflowClient().search_model_versions(f"source_path = 'models:/{known}'")
    if len(found) != 1:
        return None
    try:
        return registry.get_version(found[0].name, str(found[0].version))
    except VersionNotFound:  # Deleted meanwhile.
        return None


def _candidate(
    setting: Setting, version: ModelVersion, registered: bool, dataset: EvaluationDataset, model: Any, folder: Path
) -> Candidate:
    """The version with the model that MLflow has loaded; of a registered one its files' digest and format."""
    candidate = Candidate(version, folder / "model")
    if registered:
        candidate.folder.mkdir()
        candidate.digest = setting.registry.fetch(version, candidate.folder)
        candidate.backend, candidate.inspection = find_backend(candidate.folder)
        candidate.signature = candidate.inspection.signature or version.signature
    if model is None:
        candidate.loaded = _Given(np.asarray(dataset.predictions_data))
        candidate.inputs = {_Given.ROW: setting.data.row_id}
        return candidate
    if candidate.inspection is None or candidate.inspection.carries_code or candidate.backend == PyfuncBackend.name:
        candidate.loaded = _loaded(model)
        candidate.signature = candidate.loaded.signature
    # Else Lepton's own backend loads the files: what it routes to, and MLflow's pyfunc of an ONNX classifier
    # fails on tables (labels and probabilities of different shapes).
    candidate.inputs, candidate.given, candidate.notes = model_inputs(
        setting.data.frame, candidate.signature, version.version, setting.roles, set(setting.kept.columns)
    )
    return candidate


def _loaded(model: Any) -> LoadedModel:
    """An estimator is asked by its own methods: its pyfunc gives labels only."""
    own = model.metadata.signature if model.metadata is not None else None
    signature = None
    if own is not None and own.inputs is not None:
        written = own.to_dict()
        signature = signature_from_mlflow(json.loads(written["inputs"]), json.loads(written.get("outputs") or "[]"))
    try:
        raw = model.get_raw_model()
    except (AttributeError, NotImplementedError):
        raw = None
    if raw is not None and hasattr(raw, "predict_proba") and hasattr(raw, "classes_"):
        return EstimatorModel(raw, signature)
    return PyfuncModel(model, signature)


class _Given:
    """Predictions that were made before, as a model that looks them up."""

    ROW = "row"

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.signature: Signature | None = None
        self.classes: tuple[str, ...] = ()

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        rows = columns[self.ROW]
        values = self.values[rows]
        if output == "label":
            return outputs.as_label(values, len(rows))
        if output == "proba":
            if (
                values.dtype.kind != "f"
                or not ((values >= 0) & (values <= 1)).all()
                or set(np.unique(values)) <= {0, 1}
            ):
                raise OutputUnavailable(None, output, "labels")
            return outputs.as_proba(values, len(rows))
        return (outputs.as_score if output == "score" else outputs.as_value)(values, len(rows))

    def close(self) -> None:
        """Nothing is held."""


def _log(
    report: EvaluationReport, files: Mapping[str, Path], run_id: str, model_id: str | None, dataset: EvaluationDataset
) -> EvaluationResult:
    """Metrics `lepton/<metric>` with their bounds, and the report's files below `lepton/`, on the user's run."""
    client = mlflow.MlflowClient()
    values: dict[str, float] = {}
    for name, estimate in report.metrics.items():
        for suffix, value in (("", estimate.value), ("/low", estimate.low), ("/high", estimate.high)):
            if value is not None and np.isfinite(value):
                values[f"lepton/{name.replace('@', '_at_')}{suffix}"] = float(value)
    now = int(time.time() * 1000)
    link = {"model_id": model_id, "dataset_name": dataset.name, "dataset_digest": dataset.digest} if model_id else {}
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0, **link) for name, value in values.items()])
    written = json.loads(report.model_dump_json())
    client.log_dict(run_id, written, "lepton/report.json")
    base = mlflow.get_run(run_id).info.artifact_uri
    artifacts: dict[str, Any] = {
        "lepton/report.json": JsonEvaluationArtifact(uri=f"{base}/lepton/report.json", content=written)
    }
    for name, path in files.items():
        client.log_artifact(run_id, str(path), "lepton")
        if path.suffix == ".png":
            artifacts[f"lepton/{name}"] = ImageEvaluationArtifact(uri=f"{base}/lepton/{name}")
    return EvaluationResult(metrics=values, artifacts=artifacts)

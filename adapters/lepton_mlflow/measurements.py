"""Metrics in MLflow: those of a report as it is stored, and those that a user's run already holds."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.faults import is_missing
from lepton_mlflow.names import KEY_LIMIT, key_part
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.registry import MeasuredRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: MLflow keeps a dataset's digest in 36 characters.
_DATASET_DIGEST = 36


def log_measurements(client: MlflowClient, run_id: str, model_id: str | None, report: EvaluationReport) -> None:
    """Log a report's figures on its run, and on the version's LoggedModel where it has one.

    Keys are `lepton/<dataset>/<metric>`: never a training key, so that a later training step doesn't hide
    them. The bounds of intervals are logged on the run only.
    """
    from mlflow.entities import Dataset, DatasetInput, LoggedModelInput, Metric

    now = int(time.time() * 1000)
    name, digest = report.dataset.name[:500], report.dataset.digest.removeprefix("sha256:")[:_DATASET_DIGEST]

    def metric(key: str, value: float | None, *, of_model: bool) -> list[Metric]:
        if value is None or not math.isfinite(value):
            return []
        full = f"lepton/{key_part(report.dataset.name)}/{key}"[:KEY_LIMIT]
        link = {"model_id": model_id, "dataset_name": name, "dataset_digest": digest} if of_model and model_id else {}
        return [Metric(full, value, now, 0, **link)]

    metrics = []
    for key, estimate in report.metrics.items():
        metrics += metric(key_part(key), estimate.value, of_model=True)
        metrics += metric(f"{key_part(key)}/low", estimate.low, of_model=False)
        metrics += metric(f"{key_part(key)}/high", estimate.high, of_model=False)
    for entry in report.latency:
        metrics += metric(f"latency_p50_ms/batch_{entry.batch_size}", entry.p50_ms, of_model=entry.batch_size == 1)
        metrics += metric(f"latency_p99_ms/batch_{entry.batch_size}", entry.p99_ms, of_model=entry.batch_size == 1)
        metrics += metric(f"rows_per_second/batch_{entry.batch_size}", entry.rows_per_second, of_model=False)
    if report.resources.peak_memory is not None:
        metrics += metric("peak_memory_bytes", report.resources.peak_memory.value, of_model=True)
    dataset = Dataset(name=name, digest=digest, source_type="lepton", source='{"uri": "lepton"}')
    client.log_inputs(
        run_id,
        datasets=[DatasetInput(dataset, tags=[])],
        models=[LoggedModelInput(model_id)] if model_id else None,
    )
    for start in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[start : start + 500], synchronous=True)


def measured(access: Access, run_id: str) -> MeasuredRun:
    """The metrics that a run of the user's holds, and the dataset it names."""
    from mlflow.exceptions import MlflowException

    with access.doing(f"read run {run_id}") as client:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if is_missing(error) or "Invalid run id" in str(error):
                raise InvalidInput(f"No run {run_id!r} in the registry at {access.shown_uri}.") from None
            raise
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    dataset = inputs[0].dataset if inputs else None
    return MeasuredRun(
        run_id=run_id,
        metrics={key: float(value) for key, value in run.data.metrics.items()},
        dataset_name=dataset.name if dataset else None,
        dataset_digest=dataset.digest if dataset else None,
    )

"""Taking over what a run has already measured, marked as what it is: somebody else's figures, without interval."""

from __future__ import annotations

from datetime import UTC, datetime

from lepton_plugins.errors import InvalidInput, ReportMeasured
from lepton_plugins.evaluation.dataset import check_task
from lepton_plugins.evaluation.earlier import measured_report
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.records.report import Dataset, Estimate, EvaluationReport, Task
from lepton_plugins.registry import Registry

_TASKS: tuple[Task, ...] = ("classification", "regression", "ranking")

#: MLflow's own evaluator and scikit-learn call some metrics otherwise.
_SYNONYMS = {
    "accuracy_score": "accuracy",
    "balanced_accuracy_score": "balanced_accuracy",
    "precision_score": "precision",
    "recall_score": "recall",
    "f1_score": "f1",
    "roc_auc_score": "roc_auc",
    "auc": "roc_auc",
    "brier_score_loss": "brier",
    "brier_loss": "brier",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "r2_score": "r2",
}
#: Words in a name that say that less is better, for metrics that Lepton doesn't know.
_LESS = ("loss", "error", "mae", "mse", "rmse", "mape", "brier", "pinball", "perplexity", "deviance", "latency")


def take_over(
    registry: Registry,
    model: str,
    version: str,
    run_id: str,
    *,
    task: Task | None = None,
    target: str = "",
    dataset_name: str | None = None,
    force: bool = False,
) -> EvaluationReport:
    """Store a report of the metrics that run `run_id` holds, for a version of the model.

    Its figures have no interval and its dataset is paired with nobody's: the run doesn't tell its rows.
    Without `task` it is the one whose metrics the run has. InvalidInput where that isn't clear; ReportMeasured
    where it would take the place of what Lepton measured itself, unless `force`.
    """
    if task is not None:
        check_task(task)
    known = registry.get_version(model, version)
    earlier = None if force else measured_report(registry, known.model, known.version)
    if earlier is not None:
        raise ReportMeasured(known.model, known.version, f"{earlier.dataset.name}, {earlier.dataset.rows:,} rows")
    measured = registry.measured(run_id)
    metrics = {_SYNONYMS.get(name, name): value for name, value in measured.metrics.items()}
    if not metrics:
        raise InvalidInput(f"Run {run_id} has no metrics to take over.")
    task = task or _task_of(metrics, run_id)
    directions = {info.name: info.greater_is_better for info in available(task)}
    method = f"reported by run {run_id}, no interval"
    report = EvaluationReport(
        model=known.model,
        version=known.version,
        label=known.label,
        artifact_digest=known.artifact_digest,
        dataset=Dataset(
            name=dataset_name or measured.dataset_name or f"run-{run_id[:8]}",
            digest=f"run:{run_id}:{measured.dataset_digest or 'unknown'}",
            rows=0,
        ),
        task=task,
        target=target,
        signature=known.signature,
        metrics={
            name: Estimate(
                value=value,
                low=None,
                high=None,
                method=method,
                n=0,
                greater_is_better=directions.get(name, not any(word in name.lower() for word in _LESS)),
            )
            for name, value in sorted(metrics.items())
        },
        notes=(f"taken over from run {run_id}: nothing was measured by Lepton, there are no predictions to pair",),
        evaluated_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return registry.save_report(report, {})


def _task_of(metrics: dict[str, float], run_id: str) -> Task:
    fitting: list[Task] = [task for task in _TASKS if {info.name for info in available(task)} & set(metrics)]
    if len(fitting) != 1:
        names = ", ".join(sorted(metrics)[:12])
        raise InvalidInput(
            f"Run {run_id} doesn't tell its task by its metrics ({names}). Say it with --task {'|'.join(_TASKS)}."
        )
    return fitting[0]

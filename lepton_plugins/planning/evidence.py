"""The evidence that a plan is made from: the candidates' predictions side by side, with the default arm."""

from __future__ import annotations

import numpy as np

from lepton_plugins.errors import ArmMissing, MetricNotByRow, NoArmLeft, PredictionsUnpaired, SpecInvalid, UnknownMetric
from lepton_plugins.evaluation import metrics, ratio, row_metrics
from lepton_plugins.evaluation.paired import PairedPredictions, load_predictions, pair
from lepton_plugins.evaluation.predictions import Predictions
from lepton_plugins.planning.candidates import Admission, roles
from lepton_plugins.records.report import EvaluationReport, Task
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.registry import Registry


def require(admission: Admission, spec: PlanSpec) -> None:
    """What is left must be something, and hold the versions that the plan file gives a part to."""
    names = [item.name for item in admission.candidates]
    if not names:
        raise NoArmLeft(spec.model, [(item.version, item.reason) for item in admission.rejected])
    for version, place in roles(spec).items():
        if version not in names:
            raise ArmMissing(version, place, names, admission.reason(version))


def metric_of(spec: PlanSpec, task: Task) -> str:
    """The objective's metric; without probabilities the usual one of a classification is the accuracy."""
    if spec.objective.metric is None:
        return "accuracy" if task == "classification" and spec.output == "label" else row_metrics.default_metric(task)
    try:
        own = "classification" if spec.objective.metric in ratio.METRICS else row_metrics.task_of(spec.objective.metric)
    except MetricNotByRow as error:
        raise MetricNotByRow(spec.objective.metric, [*error.by_row, *ratio.METRICS]) from None
    if spec.objective.metric in ratio.METRICS and (spec.objective.weights or spec.objective.form == "select"):
        found = "weights" if spec.objective.weights else "form: select"
        raise SpecInvalid(
            [
                f"objective: found {found} beside metric: {spec.objective.metric}, which is one figure of all answers "
                "together and no sum over versions; expected form: mixture without weights"
            ]
        )
    if own != task:
        by_row = [info.name for info in metrics.available(task) if info.row_decomposable]
        raise UnknownMetric(spec.objective.metric, task, by_row)
    return metrics.metric(task, spec.objective.metric).name


def evidence_of(registry: Registry, spec: PlanSpec, admission: Admission) -> PairedPredictions:
    """The candidates' predictions side by side; who has none, or other rows, is rejected."""
    metric = metric_of(spec, admission.task)
    reports: list[EvaluationReport] = []
    predictions: list[Predictions] = []
    for candidate in list(admission.candidates):
        report = candidate.report
        by_label = metric in ("accuracy", *ratio.METRICS)
        if report.task == "classification" and not by_label and report.output != "proba":
            reason = f"it gives {report.output!r}, and the objective {metric!r} needs probabilities"
            admission.reject(candidate.name, "output_unavailable", reason)
            continue
        try:
            predictions.append(load_predictions(registry, report))
        except PredictionsUnpaired as none:
            admission.reject(candidate.name, none.code, str(none))
            continue
        reports.append(report)
    require(admission, spec)
    paired, unpaired = pair(reports, predictions, metric)
    for error in unpaired:
        admission.reject(error.version, error.code, str(error))
    cost = {item.name: item.cost.cpu for item in admission.candidates}
    paired.costs = np.array([cost[version] for version in paired.versions], dtype=np.float64)
    return paired


def with_default(
    paired: PairedPredictions, admission: Admission, spec: PlanSpec, leader: str | None
) -> PairedPredictions:
    """The evidence of the versions that may answer, with the default arm among them."""
    live = [i for i, version in enumerate(paired.versions) if version not in spec.around.shadow]
    names = [paired.versions[i] for i in live]
    if not names:
        raise NoArmLeft(spec.model, [(version, "it is a shadow") for version in paired.versions])
    sign = 1.0 if paired.greater_is_better else -1.0
    if leader in names:
        default = leader
    else:
        default = names[int(np.nanargmax(sign * paired.means[live]))]
        if leader is not None:
            why = admission.reason(leader) or "it isn't among the plan file's versions, or it is a shadow"
            admission.warnings.append(
                f"version {leader}, the default arm so far, can't be an arm: {why}. Version {default}, the best by "
                f"{paired.metric}, takes its place"
            )
    paired.default = paired.versions.index(default)
    return paired.only(live).about_default()

"""Who can be compared: the versions with reports and predictions on the same rows, and why others can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, PredictionsUnpaired
from lepton_plugins.evaluation.comparison import LeftOut
from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.evaluation.latest import latest_report
from lepton_plugins.evaluation.paired import load_predictions
from lepton_plugins.evaluation.predictions import Predictions
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry


@dataclass(slots=True)
class Contestant:
    """A version with its report and predictions."""

    report: EvaluationReport
    predictions: Predictions
    output: NDArray[Any]
    """Probabilities in the classes of all; labels as positions in them."""


@dataclass(slots=True)
class Contest:
    """Versions on the same rows. In a classification `target` (n,) holds positions in the classes, whose names
    don't matter here: `classes` are "0", "1", …; comparing text for each figure would take the most time.
    """

    contestants: list[Contestant]
    target: NDArray[Any]
    classes: tuple[str, ...]
    left_out: list[LeftOut]


def gather(registry: Registry, model: str) -> Contest:
    """The versions of a model by their latest reports; without contestants where there is none to compare."""
    reports, left_out = _reports(registry, model)
    contestants, unpaired = _paired(registry, reports)
    left_out = sorted([*left_out, *unpaired], key=lambda out: int(out.version) if out.version.isdigit() else 0)
    if not contestants:
        return Contest([], np.zeros(0), (), left_out)
    first = contestants[0]
    target: NDArray[Any] = first.predictions.target
    if first.report.task != "classification":
        return Contest(contestants, target, first.report.classes, left_out)
    names = tuple(dict.fromkeys(name for one in contestants for name in one.report.classes))
    for one in contestants:
        one.output = _in_classes(one.output, one.report.classes, names)
    return Contest(contestants, class_codes(target, names), tuple(map(str, range(len(names)))), left_out)


def _reports(registry: Registry, model: str) -> tuple[list[EvaluationReport], list[LeftOut]]:
    """The reports on the data that most versions were evaluated on; the later data where as many were."""
    found: list[EvaluationReport] = []
    left_out: list[LeftOut] = []
    for version in registry.list_versions(model):
        report = latest_report(registry, model, version.version)
        if isinstance(report, LeptonError):
            left_out.append(_left_out(version, str(report)))
        elif report is None:
            left_out.append(_left_out(version, "it has no evaluation report"))
        elif report.failure is not None:
            reason = f"its evaluation failed ({report.failure.stage}): {report.failure.reason}"
            left_out.append(_left_out(version, reason))
        else:
            found.append(report)
    by_data: dict[tuple[str, str], list[EvaluationReport]] = {}
    for report in found:
        by_data.setdefault((report.dataset.digest, report.task), []).append(report)
    if not by_data:
        return [], left_out
    best = max(by_data.values(), key=lambda same: (len(same), max(report.evaluated_at or "" for report in same)))
    for report in found:
        if report not in best:
            data = report.dataset
            rows = "rows unknown" if report.taken_over else f"{data.rows:,} rows"
            reason = f"it was evaluated on other data ({data.name}, {rows}, {data.digest[:19]}…)"
            left_out.append(_left_out(report, reason))
    return best, left_out


def _left_out(version: ModelVersion | EvaluationReport, reason: str) -> LeftOut:
    return LeftOut(version=version.version, label=version.label, reason=reason)


def _paired(registry: Registry, reports: Sequence[EvaluationReport]) -> tuple[list[Contestant], list[LeftOut]]:
    """The reports with their predictions on the same rows; who can't be paired, and why."""
    contestants: list[Contestant] = []
    left_out: list[LeftOut] = []
    for report in reports:
        try:
            predictions = load_predictions(registry, report)
        except PredictionsUnpaired as error:
            left_out.append(_left_out(report, error.reason))
            continue
        if contestants:
            first = contestants[0]
            same = np.array_equal(first.predictions.row_id, predictions.row_id)
            if not same or not np.array_equal(first.predictions.target, predictions.target):
                reason = f"its predictions are of other rows than version {first.report.version}'s"
                left_out.append(_left_out(report, reason))
                continue
            if first.report.classes[1:2] != report.classes[1:2] and report.task == "classification":
                reason = f"its positive class is {report.classes[1]!r}, not {first.report.classes[1]!r}"
                left_out.append(_left_out(report, reason))
                continue
        contestants.append(Contestant(report, predictions, predictions.output))
    return contestants, left_out


def _in_classes(output: NDArray[Any], own: Sequence[str], names: tuple[str, ...]) -> NDArray[Any]:
    """Labels as positions in all classes; probabilities with 0 for classes that a version doesn't know."""
    if output.ndim == 1:
        return class_codes(output, names, "prediction")
    if tuple(own) == names:
        return output
    wide = np.zeros((len(output), len(names)))
    wide[:, [names.index(name) for name in own]] = output
    return wide

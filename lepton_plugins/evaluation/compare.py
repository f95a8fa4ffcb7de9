"""Comparing versions: side by side on the same rows, with paired differences to the best."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import NothingToCompare, RecordMismatch, UnknownMetric
from lepton_plugins.evaluation.comparison import (
    ComparedVersion,
    Comparison,
    ComparisonRow,
    Entry,
    LeftOut,
    Verdict,
)
from lepton_plugins.evaluation.difference import paired_difference
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.evaluation.predictions import FILE, Predictions, read_predictions
from lepton_plugins.evaluation.row_metrics import default_metric
from lepton_plugins.evaluation.score import score_slices
from lepton_plugins.evaluation.slices import slice_frame
from lepton_plugins.records.report import Estimate, EvaluationReport
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry

__all__ = ["Comparison", "compare"]


@dataclass(slots=True)
class _Contestant:
    """A version with its report and predictions, its output in the classes of all."""

    report: EvaluationReport
    predictions: Predictions
    output: NDArray[Any]


def compare(registry: Registry, model: str, *, metric: str | None = None, by: str | None = None) -> Comparison:
    """Compare the versions of a model by their latest reports on the same data.

    `metric` (default: the task's) is the one shown by slice; `by` a slicing of the kept columns
    ("carrier", "carrier,origin", "distance:4"), by default all that were asked for in the evaluation. The
    data is that of most versions; the others are left out with the reason. Raises NothingToCompare,
    UnknownMetric, ColumnMissing.
    """
    reports, left_out = _reports(registry, model)
    contestants, unpaired, classes = _paired(registry, reports)
    left_out = sorted([*left_out, *unpaired], key=lambda out: int(out.version) if out.version.isdigit() else 0)
    if not contestants:
        raise NothingToCompare(model, [f"version {out.version}: {out.reason}" for out in left_out])
    first = contestants[0].report
    chosen = _metric(metric, contestants)
    level = next(iter(first.metrics.values())).level
    overall = tuple(
        _row(name, contestants, [one.report.metrics[name] for one in contestants], classes, level)
        for name in _shared(contestants)
    )
    slices = _slices(chosen, contestants, classes, level, by)
    notes = []
    compared = len(slices) * (len(contestants) - 1)
    if compared > 20:
        notes.append(
            f"each interval stands for itself: of {compared} differences without any true one, about "
            f"{compared * (1 - level):.0f} would exclude zero by chance"
        )
    return Comparison(
        model=model,
        dataset=first.dataset,
        task=first.task,
        metric=chosen,
        level=level,
        versions=tuple(_compared(one.report) for one in contestants),
        overall=overall,
        slices=slices,
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def _reports(registry: Registry, model: str) -> tuple[list[EvaluationReport], list[LeftOut]]:
    """The reports on the data that most versions were evaluated on; the later data where as many were."""
    found: list[EvaluationReport] = []
    left_out: list[LeftOut] = []
    for version in registry.list_versions(model):
        try:
            report = registry.get_report(model, version.version)
        except RecordMismatch as error:
            left_out.append(_left_out(version, str(error)))
            continue
        if report is None:
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
            reason = f"it was evaluated on other data ({data.name}, {data.rows:,} rows, {data.digest[:19]}…)"
            left_out.append(_left_out(report, reason))
    return best, left_out


def _left_out(version: ModelVersion | EvaluationReport, reason: str) -> LeftOut:
    return LeftOut(version=version.version, label=version.label, reason=reason)


def _paired(
    registry: Registry, reports: Sequence[EvaluationReport]
) -> tuple[list[_Contestant], list[LeftOut], tuple[str, ...]]:
    """The reports with their predictions on the same rows, in the classes of all; who can't be, and why."""
    contestants: list[_Contestant] = []
    left_out: list[LeftOut] = []
    for report in reports:
        with tempfile.TemporaryDirectory(prefix="lepton-") as folder:
            path = registry.get_report_file(report, FILE, Path(folder))
            if path is None:
                left_out.append(_left_out(report, "its report has no predictions"))
                continue
            predictions = read_predictions(path, report)
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
        contestants.append(_Contestant(report, predictions, predictions.output))
    if not contestants or contestants[0].report.task != "classification":
        return contestants, left_out, contestants[0].report.classes if contestants else ()
    classes = tuple(dict.fromkeys(name for one in contestants for name in one.report.classes))
    for one in contestants:
        one.output = _widened(one.output, one.report.classes, classes)
    return contestants, left_out, classes


def _widened(output: NDArray[Any], own: Sequence[str], classes: tuple[str, ...]) -> NDArray[Any]:
    """Probabilities in more classes than a version knows: 0 for those."""
    if output.ndim == 1 or tuple(own) == classes:
        return output
    wide = np.zeros((len(output), len(classes)))
    wide[:, [classes.index(name) for name in own]] = output
    return wide


def _metric(asked: str | None, contestants: Sequence[_Contestant]) -> str:
    first = contestants[0].report
    shared = _shared(contestants)
    if asked is not None:
        if asked not in shared:
            raise UnknownMetric(asked, first.task, shared)
        return asked
    usual = default_metric(first.task)
    there = [name for name in shared if all(one.report.metrics[name].value is not None for one in contestants)]
    return usual if usual in there else next(iter(there or shared))


def _shared(contestants: Sequence[_Contestant]) -> list[str]:
    """Metrics that all were measured by, in the order in which they are shown."""
    first = contestants[0].report
    usual = [info.name for info in available(first.task)]
    place = {name: index for index, name in enumerate(usual)}
    names = [name for name in first.metrics if all(name in one.report.metrics for one in contestants)]
    return sorted(names, key=lambda name: place.get(name, len(place)))


def _row(
    metric: str,
    contestants: Sequence[_Contestant],
    estimates: Sequence[Estimate],
    classes: tuple[str, ...],
    level: float,
    rows: NDArray[np.intp] | None = None,
    by: tuple[str, ...] = (),
    value: tuple[str, ...] = (),
) -> ComparisonRow:
    """One metric for all versions on all rows, or on some; differences to the best."""
    up = estimates[0].greater_is_better
    known = [i for i, estimate in enumerate(estimates) if estimate.value is not None]
    best = max(known, key=lambda i: _signed(estimates[i], up), default=None)
    entries = []
    for index, (one, estimate) in enumerate(zip(contestants, estimates, strict=True)):
        difference: Estimate | None = None
        verdict: Verdict = "unknown"
        if index == best:
            verdict = "best"
        elif best is not None and estimate.value is not None:
            difference = _difference(metric, contestants[best], one, classes, level, rows)
            verdict = _verdict(difference)
        entries.append(Entry(version=one.report.version, estimate=estimate, verdict=verdict, difference=difference))
    n = contestants[0].predictions.rows if rows is None else len(rows)
    return ComparisonRow(metric=metric, greater_is_better=up, by=by, value=value, n=n, entries=tuple(entries))


def _signed(estimate: Estimate, up: bool) -> float:
    assert estimate.value is not None
    return estimate.value if up else -estimate.value


def _difference(
    metric: str,
    best: _Contestant,
    other: _Contestant,
    classes: tuple[str, ...],
    level: float,
    rows: NDArray[np.intp] | None,
) -> Estimate:
    pick = slice(None) if rows is None else rows
    groups = best.predictions.groups
    return paired_difference(
        metric,
        best.report.task,
        best.predictions.target[pick],
        best.output[pick],
        other.output[pick],
        classes,
        groups=None if groups is None else groups[pick],
        level=level,
    )


def _verdict(difference: Estimate) -> Verdict:
    if difference.value is None or difference.low is None or difference.high is None:
        return "unknown"
    return "tie" if difference.low <= 0 <= difference.high else "worse"


def _slices(
    metric: str, contestants: Sequence[_Contestant], classes: tuple[str, ...], level: float, by: str | None
) -> tuple[ComparisonRow, ...]:
    """The metric by slice; the slices are cut again from the columns that were kept beside the predictions."""
    import pandas as pd

    first = contestants[0].predictions
    frame = pd.DataFrame(dict(first.columns))
    asked = (by,) if by is not None else _common(contestants)
    sliced = slice_frame(frame, asked)
    measured = [
        score_slices(
            one.report.task,
            first.target,
            one.output,
            one.report.output or "value",
            classes,
            slices=sliced,
            groups=first.groups,
            level=level,
        )
        for one in contestants
    ]
    found = []
    place = 0
    for columns, (codes, values) in sliced.items():
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(values) + 1))
        for index, value in enumerate(values):
            estimates = [slices[place].metrics[metric] for slices in measured]
            rows = order[edges[index] : edges[index + 1]]
            found.append(_row(metric, contestants, estimates, classes, level, rows, columns, value))
            place += 1
    return tuple(found)


def _common(contestants: Sequence[_Contestant]) -> tuple[str, ...]:
    """What all were sliced by."""
    return tuple(
        text
        for text in contestants[0].predictions.slicings
        if all(text in one.predictions.slicings for one in contestants)
    )


def _compared(report: EvaluationReport) -> ComparedVersion:
    single = next((item for item in report.latency if item.batch_size == 1), None)
    largest = max(report.latency, key=lambda item: item.batch_size, default=None)
    peak = report.resources.peak_memory
    return ComparedVersion(
        version=report.version,
        label=report.label,
        run_id=report.run_id,
        evaluated_at=report.evaluated_at,
        p50_ms=single.p50_ms if single else None,
        rows_per_second=largest.rows_per_second if largest else None,
        artifact_bytes=report.resources.artifact_bytes,
        parameters=report.resources.parameters,
        peak_memory=peak.value if peak else None,
    )

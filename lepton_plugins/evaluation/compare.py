"""Comparing versions: side by side on the same rows, with paired differences to the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import NothingToCompare, UnknownMetric
from lepton_plugins.evaluation.comparison import ComparedVersion, Comparison, ComparisonRow, Entry, Verdict
from lepton_plugins.evaluation.contest import Contest, Contestant, gather
from lepton_plugins.evaluation.difference import paired_differences
from lepton_plugins.evaluation.metrics import available
from lepton_plugins.evaluation.row_metrics import default_metric
from lepton_plugins.evaluation.score import score_slices
from lepton_plugins.evaluation.slices import SliceCodes, slice_frame
from lepton_plugins.records.report import Estimate, EvaluationReport, Slice
from lepton_plugins.registry import Registry

__all__ = ["Comparison", "compare"]


def compare(registry: Registry, model: str, *, metric: str | None = None, by: str | None = None) -> Comparison:
    """Compare the versions of a model by their latest reports on the same data.

    With a `metric` asked for, the comparison holds that one only; else all that the reports share, the task's
    own by slice. `by` is a slicing of the kept columns
    ("carrier", "carrier,origin", "distance:4"), by default all that were asked for in the evaluation. The
    data is that of most versions; the others are left out with the reason. Raises NothingToCompare,
    UnknownMetric, ColumnMissing.
    """
    contest = gather(registry, model)
    contestants = contest.contestants
    if not contestants:
        raise NothingToCompare(model, [f"version {out.version}: {out.reason}" for out in contest.left_out])
    first = contestants[0].report
    shared = _shared(contestants)
    chosen = _metric(metric, contestants, shared)
    level = first.metrics[chosen].level
    overall = _overall(contest, shared if metric is None else [chosen], level)
    slices = _slices(contest, chosen, level, by)
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
        left_out=tuple(contest.left_out),
        notes=tuple(notes),
    )


def _shared(contestants: Sequence[Contestant]) -> list[str]:
    """Metrics that all were measured by, in the order in which they are shown."""
    first = contestants[0].report
    place = {info.name: index for index, info in enumerate(available(first.task))}
    names = [name for name in first.metrics if all(name in one.report.metrics for one in contestants)]
    return sorted(names, key=lambda name: place.get(name, len(place)))


def _metric(asked: str | None, contestants: Sequence[Contestant], shared: Sequence[str]) -> str:
    task = contestants[0].report.task
    if asked is not None:
        if asked not in shared:
            raise UnknownMetric(asked, task, shared)
        return asked
    usual = default_metric(task)
    there = [name for name in shared if all(one.report.metrics[name].value is not None for one in contestants)]
    return usual if usual in there else next(iter(there or shared))


def _overall(contest: Contest, metrics: Sequence[str], level: float) -> tuple[ComparisonRow, ...]:
    """Every metric on all rows; differences only to the version that is best by the metric."""
    rows = len(contest.target)
    estimates = {metric: [one.report.metrics[metric] for one in contest.contestants] for metric in metrics}
    led: dict[int | None, list[str]] = {}
    for metric in metrics:
        led.setdefault(_best(estimates[metric]), []).append(metric)
    everywhere = np.zeros(rows, dtype=np.intp)
    measures = {best: _measurer(contest, names, everywhere, 1, level) for best, names in led.items()}
    return tuple(
        _row(metric, estimates[metric], contest, measures[_best(estimates[metric])], 0, rows) for metric in metrics
    )


def _best(estimates: Sequence[Estimate]) -> int | None:
    """Index of the best value; None where there is no value."""
    known = [index for index, estimate in enumerate(estimates) if estimate.value is not None]
    return max(known, key=lambda index: _height(estimates[index]), default=None)


def _height(estimate: Estimate) -> float:
    value = estimate.value or 0.0
    return value if estimate.greater_is_better else -value


def _slices(contest: Contest, metric: str, level: float, by: str | None) -> tuple[ComparisonRow, ...]:
    """The metric by slice; the slices are cut again from the columns that were kept beside the predictions."""
    import pandas as pd

    first = contest.contestants[0].predictions
    asked = (by,) if by is not None else _common(contest.contestants)
    found: list[ComparisonRow] = []
    for columns, cut in slice_frame(pd.DataFrame(dict(first.columns)), asked).items():
        measured = [_measured(contest, one, {columns: cut}, level) for one in contest.contestants]
        measure = _measurer(contest, [metric], cut.codes, len(cut.values), level)
        for index, value in enumerate(cut.values):
            estimates = [slices[index].metrics[metric] for slices in measured]
            found.append(
                _row(metric, estimates, contest, measure, index, measured[0][index].n, by=columns, value=value)
            )
    return tuple(found)


def _measured(
    contest: Contest, one: Contestant, cut: Mapping[tuple[str, ...], SliceCodes], level: float
) -> tuple[Slice, ...]:
    groups = contest.contestants[0].predictions.groups
    kind = one.report.output or "value"
    return score_slices(one.report.task, contest.target, one.output, kind, contest.classes, cut, groups, level)


#: (metric, best, other, slice) → the other's value minus the best's.
Measure = Callable[[str, int, int, int], Estimate]


def _measurer(contest: Contest, metrics: Sequence[str], codes: NDArray[np.intp], size: int, level: float) -> Measure:
    """Differences of pairs of versions, measured when a pair is first asked for, for all metrics and slices."""
    first = contest.contestants[0]

    @cache
    def pair(best: int, other: int) -> dict[str, list[Estimate]]:
        return paired_differences(
            metrics,
            first.report.task,
            contest.target,
            contest.contestants[best].output,
            contest.contestants[other].output,
            codes,
            size,
            contest.classes,
            first.predictions.groups,
            level,
        )

    return lambda metric, best, other, slice_: pair(best, other)[metric][slice_]


def _row(
    metric: str,
    estimates: Sequence[Estimate],
    contest: Contest,
    measure: Measure,
    slice_: int,
    n: int,
    by: tuple[str, ...] = (),
    value: tuple[str, ...] = (),
) -> ComparisonRow:
    """One metric for all versions, with the differences to the best."""
    best = _best(estimates)
    entries = []
    for index, (one, estimate) in enumerate(zip(contest.contestants, estimates, strict=True)):
        difference: Estimate | None = None
        verdict: Verdict = "unknown"
        if index == best:
            verdict = "best"
        elif best is not None and estimate.value is not None:
            difference = measure(metric, best, index, slice_)
            verdict = _verdict(difference)
        entries.append(Entry(version=one.report.version, estimate=estimate, verdict=verdict, difference=difference))
    return ComparisonRow(
        metric=metric,
        greater_is_better=estimates[0].greater_is_better,
        by=by,
        value=value,
        n=n,
        entries=tuple(entries),
    )


def _verdict(difference: Estimate) -> Verdict:
    if difference.value is None or difference.low is None or difference.high is None:
        return "unknown"
    return "tie" if difference.low <= 0 <= difference.high else "worse"


def _common(contestants: Sequence[Contestant]) -> tuple[str, ...]:
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

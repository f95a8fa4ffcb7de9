"""Differences between two versions on the same rows, paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation import means
from lepton_plugins.evaluation.calibration_difference import calibration_difference
from lepton_plugins.evaluation.classification import Classification
from lepton_plugins.evaluation.intervals import discordance, mover, normal_quantile
from lepton_plugins.evaluation.measurement import Measurement, undefined
from lepton_plugins.evaluation.metrics import MetricInfo
from lepton_plugins.evaluation.metrics import metric as metric_info
from lepton_plugins.evaluation.partition import Partition, unit_numbers
from lepton_plugins.evaluation.ranked import Ranking
from lepton_plugins.evaluation.regression import Regression
from lepton_plugins.evaluation.scored import Scored
from lepton_plugins.evaluation.scored_task import scored
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import Estimate, Task

FloatArray = NDArray[np.float64]


def paired_difference(
    metric: str,
    task: Task,
    target: NDArray[Any],
    output_a: NDArray[Any],
    output_b: NDArray[Any],
    classes: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Version b's metric minus version a's on the same rows, with the interval of the difference.

    Row means: the interval of the mean of the rows' differences; accuracy and recall: Tango's score interval;
    R²: linearised; all others: MOVER (Zou 2007) on the two versions' own intervals, with the correlation of the
    estimates from their influence functions (DeLong's covariance for the AUC). `groups` as in `score`.
    Outputs in two dimensions are probabilities, in one dimension labels (scores for the AUC).
    """
    codes = np.zeros(np.shape(target)[0], dtype=np.intp)
    return paired_differences([metric], task, target, output_a, output_b, codes, 1, classes, groups, level)[metric][0]


def paired_differences(
    metrics: Sequence[str],
    task: Task,
    target: NDArray[Any],
    output_a: NDArray[Any],
    output_b: NDArray[Any],
    codes: NDArray[Any],
    size: int,
    classes: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
    level: float = 0.95,
) -> dict[str, list[Estimate]]:
    """`paired_difference` of several metrics in each of `size` slices, by metric.

    `codes` (n,) is each row's slice, negative for none.
    """
    output_a, output_b = np.asarray(output_a), np.asarray(output_b)
    ranked = all(metric == "roc_auc" for metric in metrics)
    a = scored(task, target, output_a, _kind(task, output_a, ranked), classes, metrics)
    b = scored(task, target, output_b, _kind(task, output_b, ranked), classes, metrics)
    units = None if groups is None else unit_numbers(groups)
    partition = Partition(np.where(codes < 0, size, codes).astype(np.intp), size + 1, units)
    missing = partition.sum(a.missing | b.missing).astype(int)
    differ = partition.sum(_differ(output_a, output_b))
    measured_a, measured_b = a.measure(partition, level, metrics), b.measure(partition, level, metrics)
    result = {}
    for metric in metrics:
        info = metric_info(task, metric, len(classes) if task == "classification" else None)
        info = replace(info, low=info.low - info.high, high=info.high - info.low)
        one, other = measured_a.get(metric), measured_b.get(metric)
        if one is None or other is None:
            why = (a if one is None else b).absent()
            result[metric] = [undefined(info, why, int(n), level) for n in partition.rows[:size]]
            continue
        measured = _measure(info, partition, a, b, one, other, level)
        estimates = []
        for slice_ in range(size):
            n = int(partition.rows[slice_])
            if missing[slice_]:
                why = f"undefined: {missing[slice_]} of {n} predictions are missing or not finite"
                estimates.append(undefined(info, why, n, level))
            elif np.isnan(one.value[slice_] + other.value[slice_]):
                either = one if np.isnan(one.value[slice_]) else other
                estimates.append(either.estimate(info, slice_, level))
            elif not differ[slice_]:
                estimates.append(_same(int(one.n[slice_]), "identical predictions").estimate(info, 0, level))
            else:
                estimates.append(measured.estimate(info, slice_, level))
        result[metric] = estimates
    return result


def mean_difference(
    values_a: FloatArray,
    values_b: FloatArray,
    groups: NDArray[Any] | None = None,
    level: float = 0.95,
    *,
    greater_is_better: bool = True,
    low: float = -math.inf,
    high: float = math.inf,
) -> Estimate:
    """The mean of values_b - values_a (n,), the row values of two versions, with its interval.

    `low` and `high` bound the difference where something does (±1 for metrics in [0, 1]).
    """
    if values_a.shape != values_b.shape or values_a.ndim != 1:
        raise InvalidInput(f"Found row values of shapes {values_a.shape} and {values_b.shape}, expected (rows,) twice.")
    info = MetricInfo("difference", greater_is_better, low, high, True)
    n = values_a.size
    missing = int((~np.isfinite(values_a) | ~np.isfinite(values_b)).sum())
    if missing:
        return undefined(info, f"undefined: {missing} of {n} row values are missing or not finite", n, level)
    units = None if groups is None else unit_numbers(groups)
    if n and units is None and _zero_one(values_a) and _zero_one(values_b):
        return _discordance(Partition.whole(n), values_a, values_b, level, np.ones(n)).estimate(
            replace(info, low=-1.0, high=1.0), 0, level
        )
    if np.array_equal(values_a, values_b):
        return _same(n, "identical row values").estimate(info, 0, level)
    measured = means.mean(Partition.whole(n, units), values_b - values_a, level, low, high)
    measured.method = f"paired {measured.method}"
    return measured.estimate(info, 0, level)


def _measure(
    info: MetricInfo, partition: Partition, a: Scored, b: Scored, one: Measurement, other: Measurement, level: float
) -> Measurement:
    if isinstance(a, Ranking) and isinstance(b, Ranking):
        (values_a, users), (values_b, _) = a.by_user(info.name, partition), b.by_user(info.name, partition)
        return _mean(users, values_b - values_a, info, level, "users with something relevant")
    if isinstance(a, Classification) and isinstance(b, Classification):
        if info.name in ("accuracy", "recall") and not partition.clustered:
            counted = np.ones(a.target.size) if info.name == "accuracy" else np.asarray(a.target == 1, np.float64)
            return _discordance(partition, a.values("accuracy"), b.values("accuracy"), level, counted)
        if info.name == "calibration_error":
            bins_a, bins_b = a.calibration_bins(partition), b.calibration_bins(partition)
            return calibration_difference(partition, bins_a, bins_b, one, other, level)
    if info.row_decomposable:
        return _mean(partition, b.values(info.name) - a.values(info.name), info, level, "rows")
    if isinstance(a, Regression) and isinstance(b, Regression) and info.name == "r2":
        gained = a.values("mse") - b.values("mse")
        measured = means.ratio(partition, gained, a.spread(partition), level, info.low, info.high)
        measured.method = f"paired ratio of sums, linearised; {measured.method}"
        return measured
    if info.name == "rmse":
        return _linear(partition, one, other, info, level)
    return _mover(partition, one, other)


def _mean(partition: Partition, gaps: FloatArray, info: MetricInfo, level: float, of: str) -> Measurement:
    measured = means.mean(partition, gaps, level, info.low, info.high)
    measured.method = f"paired {measured.method}".replace("rows", of)
    return measured


def _linear(partition: Partition, one: Measurement, other: Measurement, info: MetricInfo, level: float) -> Measurement:
    """A smooth metric's difference as the mean of its influence's differences."""
    gaps = partition.rows[partition.codes] * _influence_gap(one, other)
    measured = means.mean(partition, gaps, level, info.low, info.high)
    value = other.value - one.value
    method = f"paired, linearised; {measured.method}"
    return Measurement(value, value + measured.low, value + measured.high, partition.rows, method)


def _influence_gap(one: Measurement, other: Measurement) -> FloatArray:
    assert one.influence is not None
    assert other.influence is not None
    return other.influence() - one.influence()


def _discordance(
    partition: Partition, right_a: FloatArray, right_b: FloatArray, level: float, counted: FloatArray
) -> Measurement:
    """Paired proportions among the rows `counted` (n,) as 1."""
    better, worse = partition.sum(counted * (right_b > right_a)), partition.sum(counted * (right_a > right_b))
    trials = partition.sum(counted)
    low, high = discordance(better, worse, trials, normal_quantile(level))
    value = (better - worse) / np.maximum(trials, 1)
    return Measurement(value, low, high, partition.rows, "paired proportions, score interval (Tango 1998)")


def _mover(partition: Partition, one: Measurement, other: Measurement) -> Measurement:
    """MOVER with the correlation of the estimates from their influences; 0 where one of them shows no spread.

    One discordant row more than was seen is always allowed for in metrics of counts, as Agresti & Min (2005) add one
    to paired proportions: that none was seen in a small sample doesn't mean that there is none.
    """
    assert one.influence is not None
    assert other.influence is not None
    first, second = one.influence(), other.influence()
    before, after = np.sqrt(partition.variance(first)), np.sqrt(partition.variance(second))
    spread = (before > 0) & (after > 0)
    before, after = np.where(spread, before, 1.0), np.where(spread, after, 1.0)
    shared = partition.covariance(first, second) - np.maximum(one.grain, other.grain) / 2
    correlation = np.where(spread, np.clip(shared / (before * after), -1.0, 1.0), 0.0)
    limits = (one.low, one.high), (other.low, other.high)
    low, high = mover(one.value, limits[0], other.value, limits[1], correlation, after / before)
    return Measurement(other.value - one.value, low, high, one.n, f"paired MOVER (Zou 2007) of: {other.method}")


def _differ(output_a: NDArray[Any], output_b: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows on which two versions' outputs differ."""
    if output_a.shape != output_b.shape:
        return np.ones(output_a.shape[0], dtype=bool)
    differ = np.asarray(output_a != output_b)
    return np.asarray(differ.reshape(differ.shape[0], -1).any(axis=1))


def _same(n: int, why: str) -> Measurement:
    return Measurement(np.zeros(1), np.zeros(1), np.zeros(1), np.array([n]), why)


def _zero_one(values: FloatArray) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _kind(task: Task, output: NDArray[Any], ranked: bool) -> OutputKind:
    if task == "regression":
        return "value"
    if task == "ranking":
        return "score"
    if output.ndim == 2:
        return "proba"
    return "score" if ranked else "label"

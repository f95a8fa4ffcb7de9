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
from lepton_plugins.evaluation.calibration import cross_covariance, find_moments
from lepton_plugins.evaluation.classification import Classification
from lepton_plugins.evaluation.intervals import discordance, mover, normal_quantile
from lepton_plugins.evaluation.measurement import Measurement, undefined
from lepton_plugins.evaluation.metrics import MetricInfo
from lepton_plugins.evaluation.metrics import metric as metric_info
from lepton_plugins.evaluation.partition import Partition, unit_numbers
from lepton_plugins.evaluation.ranked import Ranking
from lepton_plugins.evaluation.regression import Regression
from lepton_plugins.evaluation.scored import Scored, scored
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

    Row means: the interval of the mean of the rows' differences; accuracy: Bonett & Price; R²: linearised;
    all others: MOVER (Zou 2007) on the two versions' own intervals, with the correlation of the
    estimates from their influence functions (DeLong's covariance for the AUC). `groups` as in `score`.
    Outputs in two dimensions are probabilities, in one dimension labels (scores for the AUC).
    """
    info = metric_info(task, metric, len(classes) if task == "classification" else None)
    info = replace(info, low=info.low - info.high, high=info.high - info.low)
    a = scored(task, target, output_a, _kind(task, output_a, metric), classes, [metric])
    b = scored(task, target, output_b, _kind(task, output_b, metric), classes, [metric])
    n = a.missing.size
    missing = int((a.missing | b.missing).sum())
    if missing:
        return undefined(info, f"undefined: {missing} of {n} predictions are missing or not finite", n, level)
    partition = Partition.whole(n, None if groups is None else unit_numbers(groups))
    found = []
    for rows in (a, b):
        measured = rows.measure(partition, level, [metric]).get(metric)
        if measured is None:
            return undefined(info, rows.absent(), n, level)
        if math.isnan(measured.value[0]):
            return undefined(info, f"undefined: {measured.undefined if n else 'no rows'}", n, level)
        found.append(measured)
    if np.array_equal(output_a, output_b):
        return _same(int(found[0].n[0]), "identical predictions").estimate(info, 0, level)
    return _measure(info, partition, a, b, found[0], found[1], level).estimate(info, 0, level)


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
        return _discordance(values_a, values_b, level).estimate(replace(info, low=-1.0, high=1.0), 0, level)
    if np.array_equal(values_a, values_b):
        return _same(n, "identical row values").estimate(info, 0, level)
    measured = means.mean(Partition.whole(n, units), values_b - values_a, level, low, high)
    measured.method = f"paired {measured.method}"
    return measured.estimate(info, 0, level)


def _measure(
    info: MetricInfo, partition: Partition, a: Scored, b: Scored, one: Measurement, other: Measurement, level: float
) -> Measurement:
    if isinstance(a, Ranking) and isinstance(b, Ranking):
        lists_a, lists_b = a.by_user(info.name, partition), b.by_user(info.name, partition)
        return _mean(Partition.whole(lists_a.size), lists_b - lists_a, info, level, "users with something relevant")
    if isinstance(a, Classification) and isinstance(b, Classification):
        if info.name == "accuracy" and not partition.clustered:
            return _discordance(a.values("accuracy"), b.values("accuracy"), level)
        if info.name == "calibration_error":
            return _mover(one, other, _calibration_correlation(partition, a, b))
    if info.row_decomposable:
        return _mean(partition, b.values(info.name) - a.values(info.name), info, level, "rows")
    if isinstance(a, Regression) and info.name == "r2":
        gained = a.values("mse") - b.values("mse")
        measured = means.ratio(partition, gained, a.spread(partition), level, info.low, info.high)
        measured.method = f"paired ratio of sums, linearised; {measured.method}"
        return measured
    return _mover(one, other, _correlation(partition, one, other))


def _mean(partition: Partition, gaps: FloatArray, info: MetricInfo, level: float, of: str) -> Measurement:
    measured = means.mean(partition, gaps, level, info.low, info.high)
    measured.method = f"paired {measured.method}".replace("rows", of)
    return measured


def _discordance(right_a: FloatArray, right_b: FloatArray, level: float) -> Measurement:
    better, worse = float((right_b > right_a).sum()), float((right_a > right_b).sum())
    n = right_a.size
    low, high = discordance(np.array([better]), np.array([worse]), n, normal_quantile(level))
    value = np.array([(better - worse) / n])
    return Measurement(value, low, high, np.array([n]), "paired proportions (Bonett & Price 2012)")


def _mover(one: Measurement, other: Measurement, correlation: FloatArray) -> Measurement:
    low, high = mover(one.value, (one.low, one.high), other.value, (other.low, other.high), correlation)
    return Measurement(other.value - one.value, low, high, one.n, f"paired MOVER (Zou 2007) of: {other.method}")


def _correlation(partition: Partition, one: Measurement, other: Measurement) -> FloatArray:
    """Of two versions' estimates, from their influences; 0 where one of them shows no spread.

    A row's worth of discordance is always allowed for in metrics of counts: that none was seen in a
    small sample doesn't mean that there is none.
    """
    assert one.influence is not None
    assert other.influence is not None
    first, second = one.influence(), other.influence()
    scale = np.sqrt(partition.variance(first) * partition.variance(second))
    shared = partition.covariance(first, second) - np.maximum(one.grain, other.grain)
    return np.where(scale > 0, np.clip(shared / np.where(scale > 0, scale, 1.0), -1.0, 1.0), 0.0)


def _calibration_correlation(partition: Partition, a: Classification, b: Classification) -> FloatArray:
    """Of two quadratic forms in normal gaps: 2 tr CC' + 4 g'Ch over their standard deviations, where C is
    the covariance of version a's gaps g with version b's gaps h.
    """
    bins_a, bins_b = a.calibration_bins(partition), b.calibration_bins(partition)
    shared = cross_covariance(partition, bins_a, bins_b, 0)
    noise = float((shared**2).sum())
    g, h = np.sqrt(bins_a.part[0]) * bins_a.gap[0], np.sqrt(bins_b.part[0]) * bins_b.gap[0]
    covariance = 2 * noise + 4 * max(float(g @ shared @ h) - noise, 0.0)
    variances = []
    for bins in (bins_a, bins_b):
        moments = find_moments(partition, bins)
        variances.append(2 * moments.trace2 + 4 * moments.along * np.maximum(moments.squared, 0.0))
    scale = np.sqrt(variances[0] * variances[1])
    return np.where(scale > 0, np.clip(covariance / np.where(scale > 0, scale, 1.0), -1.0, 1.0), 0.0)


def _same(n: int, why: str) -> Measurement:
    return Measurement(np.zeros(1), np.zeros(1), np.zeros(1), np.array([n]), why)


def _zero_one(values: FloatArray) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _kind(task: Task, output: NDArray[Any], metric: str) -> OutputKind:
    if task == "regression":
        return "value"
    if task == "ranking":
        return "score"
    if np.ndim(output) == 2:
        return "proba"
    return "score" if metric == "roc_auc" else "label"

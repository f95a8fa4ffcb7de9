"""Metrics that are means over rows: each row's value, and its utility in about [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import BaselineUndefined, InvalidInput, MetricNotByRow
from lepton_plugins.evaluation import metrics
from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.evaluation.ranking import by_list, rankings, unit_rows
from lepton_plugins.records.report import Task

__all__ = ["default_metric", "row_values", "unit_rows", "utility"]

FloatArray = NDArray[np.float64]

_DEFAULT: dict[Task, str] = {"classification": "log_loss", "regression": "mse", "ranking": "ndcg@10"}


def default_metric(task: Task) -> str:
    """The metric that versions are compared by where the user names none."""
    return _DEFAULT[task]


def task_of(metric: str) -> Task:
    """The task that a row metric belongs to; raises MetricNotByRow for any other metric."""
    family = metric.partition("@")[0]
    by_row: dict[str, Task] = {}
    for task in _DEFAULT:
        for info in metrics.available(task):
            if info.row_decomposable:
                by_row[info.name.partition("@")[0]] = task
    if family not in by_row:
        raise MetricNotByRow(metric, by_row)
    return by_row[family]


def row_values(
    metric: str,
    target: NDArray[Any],
    output: NDArray[Any],
    classes: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
) -> FloatArray:
    """The metric of each row, (n,); its mean is the metric. NaN where the output is.

    Classification: `output` is (n, classes) probabilities, or (n,) labels for the accuracy. `log_loss`
    clips probabilities to [EPS, 1 - EPS], EPS = 2^-52. `brier` is (p - y)² of class 1 for two classes,
    Σ_c (p_c - y_c)² for more. Regression: (n,), or (n, k) for k targets, whose values are averaged; for
    `pinball@q` the output of quantile q, (n,) or the column of `classes` named so. Ranking: `output`
    scores rows, `groups` names the user of each: one entry a user with something relevant, in the order
    of `unit_rows`.
    """
    task = task_of(metric)
    metrics.metric(task, metric)
    target, output = np.asarray(target), np.asarray(output)
    if target.shape[:1] != output.shape[:1]:
        raise InvalidInput(f"Found {target.shape[0]} targets and {output.shape[0]} outputs, expected as many.")
    if task == "ranking":
        if groups is None:
            raise InvalidInput(f"{metric} needs the user of each row. Name the user column (group).")
        return by_list(metric, rankings(target, np.asarray(output, np.float64), groups))
    if task == "regression":
        return regression_values(metric, target, output, classes)
    if output.ndim == 1 and metric != "accuracy":
        raise InvalidInput(f"{metric} needs probabilities, found labels.")
    codes = class_codes(target, classes)
    if output.ndim == 1:
        return np.asarray(class_codes(output, classes, "prediction") == codes, dtype=np.float64)
    return classification_values(metric, codes, np.asarray(output, np.float64))


def classification_values(metric: str, codes: NDArray[np.intp], proba: FloatArray) -> FloatArray:
    """`log_loss`, `brier` or `accuracy` from class positions (n,) and probabilities (n, classes)."""
    rows = np.arange(codes.size)
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(proba[rows, codes], metrics.EPS, 1 - metrics.EPS)), dtype=np.float64)
    if metric == "brier":
        if proba.shape[1] == 2:
            return np.asarray((proba[:, 1] - (codes == 1)) ** 2, dtype=np.float64)
        own = proba[rows, codes]
        return np.asarray(np.einsum("ij,ij->i", proba, proba) - 2 * own + 1, dtype=np.float64)
    right = (proba.argmax(axis=1) == codes).astype(np.float64)
    return np.where(np.isnan(proba).any(axis=1), np.nan, right)


def regression_values(metric: str, target: NDArray[Any], output: NDArray[Any], classes: Sequence[str]) -> FloatArray:
    """`mae`, `mse` or `pinball@q` of each row; see row_values."""
    truth, value = np.asarray(target, np.float64), np.asarray(output, np.float64)
    if metric.startswith("pinball@"):
        q = metrics.quantile(metric)
        if value.ndim == 2 and truth.ndim == 1:
            value = value[:, quantile_column(q, classes, value.shape[1])]
        error = truth - value
        loss = np.maximum(q * error, (q - 1) * error)
    else:
        if value.ndim == 2 and truth.ndim == 1:
            value = value[:, 0] if value.shape[1] == 1 else value[:, quantile_column(0.5, classes, value.shape[1])]
        if truth.shape != value.shape:
            raise InvalidInput(f"Found outputs of shape {value.shape} for targets of shape {truth.shape}.")
        loss = np.abs(truth - value) if metric == "mae" else (truth - value) ** 2
    return np.asarray(loss if loss.ndim == 1 else loss.mean(axis=1), dtype=np.float64)


def quantile_column(q: float, classes: Sequence[str], columns: int) -> int:
    """The output column of quantile q; `classes` names the columns by their levels ("0.1", "0.5" …)."""
    levels = quantile_levels(classes)
    if len(levels) != columns or q not in levels:
        raise InvalidInput(
            f"The output has {columns} columns named {', '.join(classes) or 'nothing'}; expected one of them to be "
            f"the quantile level {q:g}."
        )
    return levels.index(q)


def quantile_levels(names: Sequence[str]) -> list[float]:
    """Column names as quantile levels; empty unless all are numbers between 0 and 1."""
    try:
        levels = [float(name) for name in names]
    except ValueError:
        return []
    return levels if all(0 < level < 1 for level in levels) else []


def utility(
    metric: str,
    values: FloatArray,
    target: NDArray[Any],
    classes: Sequence[str] = (),
) -> tuple[FloatArray, float | None]:
    """Row values as a utility P, and the baseline it stands on.

    A loss becomes 1 - loss / (2 · baseline): 0.5 at the baseline, 1 without loss; it may be negative.
    The baseline is the loss of the best constant prediction on these targets: the base rates (log loss,
    Brier), the mean (MSE), the median (MAE), the q-quantile (pinball). Metrics in [0, 1] stand for
    themselves, without a baseline. `values` may have any shape. Raises BaselineUndefined.
    """
    task = task_of(metric)
    if metrics.metric(task, metric).greater_is_better:
        return np.asarray(values, np.float64), None
    baseline = constant_loss(metric, target, classes)
    if not baseline > 0:
        raise BaselineUndefined(metric)
    return 1 - np.asarray(values, np.float64) / (2 * baseline), baseline


def constant_loss(metric: str, target: NDArray[Any], classes: Sequence[str] = ()) -> float:
    """The loss of the best constant prediction on `target`."""
    target = np.asarray(target)
    if task_of(metric) == "classification":
        rates = np.bincount(class_codes(target, classes), minlength=len(classes)) / max(target.shape[0], 1)
        if metric == "log_loss":
            rates = rates[rates > 0]
            return float(-(rates * np.log(rates)).sum())
        return float(rates[0] * rates[1]) if len(classes) == 2 else float(1 - (rates**2).sum())
    truth = np.asarray(target, np.float64)
    if metric == "mse":
        constant = truth.mean(axis=0)
    else:
        constant = np.quantile(truth, 0.5 if metric == "mae" else metrics.quantile(metric), axis=0)
    return float(regression_values(metric, truth, np.broadcast_to(constant, truth.shape), ()).mean())

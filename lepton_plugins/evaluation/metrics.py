"""The metrics that an evaluation measures: their names, directions and ranges."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from lepton_plugins.errors import UnknownMetric
from lepton_plugins.records.report import Task


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """A metric. `low` and `high` bound its values (infinite where nothing does).

    `row_decomposable`: the metric is the mean of a value that each row has by itself (each user, in a
    ranking), so that a router's metric is known from the rows that each version answers.
    """

    name: str
    greater_is_better: bool
    low: float
    high: float
    row_decomposable: bool


#: Probabilities are clipped to [EPS, 1 - EPS] in the log loss, as scikit-learn does for float64.
EPS = 2.0**-52
_MOST_LOG_LOSS = -math.log(EPS)

_CLASSIFICATION = (
    MetricInfo("accuracy", True, 0.0, 1.0, True),
    MetricInfo("balanced_accuracy", True, 0.0, 1.0, False),
    MetricInfo("precision", True, 0.0, 1.0, False),
    MetricInfo("recall", True, 0.0, 1.0, False),
    MetricInfo("f1", True, 0.0, 1.0, False),
    MetricInfo("precision_macro", True, 0.0, 1.0, False),
    MetricInfo("recall_macro", True, 0.0, 1.0, False),
    MetricInfo("f1_macro", True, 0.0, 1.0, False),
    MetricInfo("roc_auc", True, 0.0, 1.0, False),
    MetricInfo("log_loss", False, 0.0, _MOST_LOG_LOSS, True),
    MetricInfo("brier", False, 0.0, 2.0, True),
    MetricInfo("calibration_error", False, 0.0, 1.0, False),
)
_REGRESSION = (
    MetricInfo("mae", False, 0.0, math.inf, True),
    MetricInfo("mse", False, 0.0, math.inf, True),
    MetricInfo("rmse", False, 0.0, math.inf, False),
    MetricInfo("r2", True, -math.inf, 1.0, False),
    MetricInfo("pinball@0.5", False, 0.0, math.inf, True),
)
_RANKING = (
    MetricInfo("ndcg@10", True, 0.0, 1.0, True),
    MetricInfo("mrr", True, 0.0, 1.0, True),
    MetricInfo("recall@10", True, 0.0, 1.0, True),
)
_BY_TASK: dict[Task, tuple[MetricInfo, ...]] = {
    "classification": _CLASSIFICATION,
    "regression": _REGRESSION,
    "ranking": _RANKING,
}
#: Two classes have a positive one, `classes[1]`; more have averages over the classes.
_BINARY_ONLY = {"precision", "recall", "f1"}
_MULTICLASS_ONLY = {"precision_macro", "recall_macro"}


def available(task: Task, classes: int | None = None) -> tuple[MetricInfo, ...]:
    """The metrics of a task, in the order in which they are shown; of `classes` classes where given.

    `@10` and `@0.5` stand for any cutoff k ≥ 1 and any quantile level in (0, 1).
    """
    infos = _BY_TASK[task]
    if task != "classification" or classes is None:
        return infos
    left_out = _MULTICLASS_ONLY if classes == 2 else _BINARY_ONLY
    return tuple(
        replace(info, high=1.0) if info.name == "brier" and classes == 2 else info
        for info in infos
        if info.name not in left_out
    )


def metric(task: Task, name: str, classes: int | None = None) -> MetricInfo:
    """The metric of this name; raises UnknownMetric, which names the nearest one."""
    infos = available(task, classes)
    family, at, parameter = name.partition("@")
    for info in infos:
        if info.name == name:
            return info
        if at and info.name.partition("@")[0] == family and "@" in info.name and _fits(family, parameter):
            return replace(info, name=name)
    raise UnknownMetric(name, task, [info.name for info in infos])


def _fits(family: str, parameter: str) -> bool:
    if family == "pinball":
        return bool(re.fullmatch(r"0?\.\d+", parameter)) and float(parameter) > 0
    return bool(re.fullmatch(r"[1-9]\d*", parameter))


def cutoff(name: str) -> int:
    """The k of `ndcg@k` and `recall@k`."""
    return int(name.partition("@")[2])


def quantile(name: str) -> float:
    """The level q of `pinball@q`."""
    return float(name.partition("@")[2])

"""A version's outputs beside the targets, ready to be measured in any partition of the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.metrics import MetricInfo, available, metric
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.row_metrics import quantile_levels
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import Task

FloatArray = NDArray[np.float64]


class Scored(ABC):
    """Targets and outputs of n rows. `missing` (n,) marks rows whose output is no number."""

    infos: tuple[MetricInfo, ...]
    missing: NDArray[np.bool_]
    #: Whether the metrics are those of units (the users of a ranking).
    needs_groups = False

    @abstractmethod
    def measure(self, partition: Partition, level: float, names: Iterable[str]) -> dict[str, Measurement]:
        """The named metrics in every slice; what the kind of output can't give is left out."""

    @abstractmethod
    def values(self, name: str) -> FloatArray:
        """A row-decomposable metric's value of each row, (n,)."""

    def absent(self) -> str:
        """Why a metric was left out."""
        return "undefined for this kind of output"


def scored(
    task: Task,
    target: NDArray[Any],
    output: NDArray[Any],
    kind: OutputKind,
    classes: Sequence[str],
    extra: Iterable[str] = (),
) -> Scored:
    """The rows of a task; `extra` metrics (`ndcg@5`, `pinball@0.9`) are known beside the task's own.

    Raises InvalidInput for shapes, labels or a kind of output that don't fit the task, and UnknownMetric.
    """
    from lepton_plugins.evaluation.classification import Classification
    from lepton_plugins.evaluation.ranked import Ranking
    from lepton_plugins.evaluation.regression import Regression

    target, output = np.asarray(target), np.asarray(output)
    if target.shape[:1] != output.shape[:1]:
        raise InvalidInput(f"Found {target.shape[0]} targets and {output.shape[0]} outputs, expected as many.")
    if task == "classification":
        rows: Scored = Classification(target, output, kind, classes)
    elif task == "regression":
        rows = Regression(target, output, classes)
    else:
        rows = Ranking(target, output)
    known = {info.name for info in rows.infos}
    added = [metric(task, name, len(classes) or None) for name in extra if name not in known]
    rows.infos = (*rows.infos, *added)
    return rows


def infos_of(task: Task, classes: Sequence[str]) -> tuple[MetricInfo, ...]:
    """The metrics that are scored without being asked for."""
    if task == "classification":
        return available(task, len(classes))
    infos = available(task)
    if task == "ranking":
        return infos
    plain = tuple(info for info in infos if not info.name.startswith("pinball@"))
    return plain + tuple(metric(task, f"pinball@{level:g}") for level in quantile_levels(classes))

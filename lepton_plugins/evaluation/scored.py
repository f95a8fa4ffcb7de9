"""A version's outputs beside the targets, ready to be measured in any partition of the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.metrics import MetricInfo, available, metric
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.row_metrics import quantile_levels
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


def infos_of(task: Task, classes: Sequence[str]) -> tuple[MetricInfo, ...]:
    """The metrics that are scored without being asked for."""
    if task == "classification":
        return available(task, len(classes))
    infos = available(task)
    if task == "ranking":
        return infos
    plain = tuple(info for info in infos if not info.name.startswith("pinball@"))
    return plain + tuple(metric(task, f"pinball@{level:g}") for level in quantile_levels(classes))

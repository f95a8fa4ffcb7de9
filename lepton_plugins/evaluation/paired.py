"""The versions' predictions on the same rows, side by side: what policies are planned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.report import Dataset, Task


@dataclass(slots=True)
class PairedPredictions:
    """Per-row evidence on one dataset for k versions and n rows.

    `values` (n, k) is the row metric itself, `utility` (n, k) the same as P in about [0, 1]: for a loss
    1 - loss / (2 · baseline), so that 0.5 is the baseline's (a constant prediction), for a metric in
    [0, 1] the metric. Both are linear in the row values: means over rows are the metric's means.
    `outputs` holds each version's prediction, (n,) or (n, classes). `groups` (n,) numbers the units that
    intervals cluster by (users in a ranking), None where rows are independent.
    """

    dataset: Dataset
    task: Task
    metric: str
    greater_is_better: bool
    baseline: float | None
    versions: Sequence[str]
    default: int
    values: NDArray[np.float64]
    utility: NDArray[np.float64]
    target: NDArray[Any]
    outputs: Sequence[NDArray[Any]]
    columns: Mapping[str, NDArray[Any]]
    groups: NDArray[np.intp] | None = None
    seed: int = 0

    @property
    def rows(self) -> int:
        return int(self.values.shape[0])

    def only(self, keep: Sequence[int]) -> PairedPredictions:
        """The same rows for a part of the versions, the default among them."""
        index = np.asarray(keep, dtype=np.intp)
        return PairedPredictions(
            dataset=self.dataset,
            task=self.task,
            metric=self.metric,
            greater_is_better=self.greater_is_better,
            baseline=self.baseline,
            versions=[self.versions[i] for i in keep],
            default=list(keep).index(self.default),
            values=self.values[:, index],
            utility=self.utility[:, index],
            target=self.target,
            outputs=[self.outputs[i] for i in keep],
            columns=self.columns,
            groups=self.groups,
            seed=self.seed,
        )

"""Regression and quantile regression: every metric in every slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation import means
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.row_metrics import quantile_levels, regression_values
from lepton_plugins.evaluation.scored import Scored, infos_of

FloatArray = NDArray[np.float64]


class Regression(Scored):
    """Targets (n,) or (n, k), outputs alike; or targets (n,) and quantiles (n, q) named in `classes`.

    Quantile outputs are judged by their pinball losses, and by the other metrics where the median is
    among them. Several targets are averaged (R² pools their variances).
    """

    def __init__(self, target: NDArray[Any], output: NDArray[Any], classes: Sequence[str]) -> None:
        self.target = np.asarray(target, dtype=np.float64)
        output = np.asarray(output, dtype=np.float64)
        if not np.isfinite(self.target).all():
            raise InvalidInput("The target has rows without a number. Drop them, then evaluate again.")
        self.infos = infos_of("regression", classes)
        self.classes = classes
        finite = np.isfinite(output)
        self.missing = ~(finite if output.ndim == 1 else finite.all(axis=1))
        self.output = np.where(finite, output, 0.0)
        levels = quantile_levels(classes) if output.ndim == 2 and self.target.ndim == 1 else []
        self.has_point = not levels or 0.5 in levels
        if self.has_point and self.target.shape != self.output.shape:
            regression_values("mse", self.target[:1], self.output[:1], classes)

    def absent(self) -> str:
        return "undefined: the version gives quantiles, the median not among them"

    def measure(self, partition: Partition, level: float, names: Iterable[str]) -> dict[str, Measurement]:
        found: dict[str, Measurement] = {}
        for name in names:
            if name in ("mae", "mse", "rmse", "r2") and not self.has_point:
                continue
            if name == "r2":
                found[name] = self._r2(partition, level)
            elif name == "rmse":
                found[name] = self._rmse(partition, level)
            else:
                found[name] = means.mean(partition, self.values(name), level, 0.0, np.inf)
        return found

    def values(self, name: str) -> FloatArray:
        return regression_values(name, self.target, self.output, self.classes)

    def _rmse(self, partition: Partition, level: float) -> Measurement:
        mse = means.mean(partition, self.values("mse"), level, 0.0, np.inf)
        value = np.sqrt(mse.value)
        slope = np.where(value > 0, 1 / (2 * np.where(value > 0, value, 1.0)), 0.0)
        inner = mse.influence
        return Measurement(
            value=value,
            low=np.sqrt(np.maximum(mse.low, 0.0)),
            high=np.sqrt(np.maximum(mse.high, 0.0)),
            n=mse.n,
            method=f"root of the MSE's interval; {mse.method}",
            undefined=mse.undefined,
            influence=lambda: slope[partition.codes] * inner() if inner else np.zeros(partition.codes.size),
        )

    def _r2(self, partition: Partition, level: float) -> Measurement:
        """1 - Σ error² / Σ (target - mean)², as one minus a ratio of sums."""
        unexplained = means.ratio(partition, self.values("mse"), self.spread(partition), level, 0.0, np.inf)
        return Measurement(
            value=1 - unexplained.value,
            low=1 - unexplained.high,
            high=1 - unexplained.low,
            n=partition.rows,
            method=f"one minus a ratio of sums, linearised; {unexplained.method}",
            undefined="the target doesn't vary",
        )

    def spread(self, partition: Partition) -> FloatArray:
        """Each row's (target - its slice's mean)², averaged over the targets."""
        columns = [self.target] if self.target.ndim == 1 else list(self.target.T)
        squares = [(column - np.nan_to_num(partition.mean(column))[partition.codes]) ** 2 for column in columns]
        return np.asarray(np.mean(squares, axis=0), dtype=np.float64)

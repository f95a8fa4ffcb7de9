"""One metric measured in every slice of a partition: arrays until it becomes the report's estimates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.metrics import MetricInfo
from lepton_plugins.records.report import Estimate

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Measurement:
    """Shapes (slices,). `value` is NaN where the metric is undefined, and `undefined` says why.

    For differences between versions, `influence` gives the rows' influence on the value (see Partition), and
    `grain` is the square of a single row's in a metric of counts: what one more row could have changed.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: NDArray[Any]
    method: str | Sequence[str]
    undefined: str = ""
    influence: Callable[[], FloatArray] | None = None
    grain: FloatArray | float = 0.0

    def estimate(self, info: MetricInfo, slice_: int, level: float) -> Estimate:
        value = float(self.value[slice_])
        n = int(self.n[slice_])
        if math.isnan(value):
            return undefined(info, f"undefined: {self.undefined if n else 'no rows'}", n, level)
        method = self.method if isinstance(self.method, str) else self.method[slice_]
        # The value itself may miss its limits by rounding; the range is never left.
        low = min(max(float(self.low[slice_]), info.low), value)
        high = max(min(float(self.high[slice_]), info.high), value)
        return Estimate(
            value=value,
            low=finite(low),
            high=finite(high),
            level=level,
            method=method,
            n=n,
            greater_is_better=info.greater_is_better,
        )


def undefined(info: MetricInfo, why: str, n: int, level: float) -> Estimate:
    """No value; the interval is the metric's whole range."""
    return Estimate(
        value=None,
        low=finite(info.low),
        high=finite(info.high),
        level=level,
        method=why,
        n=n,
        greater_is_better=info.greater_is_better,
    )


def finite(bound: float) -> float | None:
    """A bound as reports keep it: None where there is none."""
    return bound if math.isfinite(bound) else None

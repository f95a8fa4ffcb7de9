"""Metrics that are a ratio of sums over rows, such as F1: their parts by row, and row values near a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import BaselineUndefined, InvalidInput

FloatArray = NDArray[np.float64]

#: Those that versions may be planned by.
METRICS = ("f1",)


@dataclass(frozen=True, slots=True)
class Ratio:
    """N / D to first order about a reference, as a mean over rows: `value` + (n - value·d) / `size`.

    `value` is the reference's own metric, `size` its mean d. The mean over rows of any mixture of versions is above
    `value` exactly where the mixture's own ratio is (Dinkelbach 1967, On nonlinear fractional programming).
    """

    metric: str
    value: float
    size: float

    def rows(self, over: FloatArray, under: FloatArray) -> FloatArray:
        """Row values from n and d of any shape."""
        values: FloatArray = self.value + (over - self.value * under) / self.size
        return values

    def over(self, values: FloatArray, under: FloatArray) -> FloatArray:
        """n, or its mean, back from row values and d, or from theirs."""
        found: FloatArray = self.size * (values - self.value) + self.value * under
        return found


def parts(metric: str, codes: NDArray[np.intp], output: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """n and d of each row, (n,), for two classes of which class 1 is the positive one.

    F1 = 2·TP / (2·TP + FP + FN), counts summed over rows whoever answered them. `output` is (n, 2) probabilities,
    the more probable class (the first of equals) being the answer, or class positions (n,).
    """
    if metric not in METRICS:
        raise InvalidInput(f"Found the metric {metric!r}, expected one of {', '.join(METRICS)}.")
    answer = output.argmax(axis=1) if output.ndim == 2 else output
    positive, said = codes == 1, answer == 1
    return 2.0 * (positive & said), positive.astype(np.float64) + said


def about(metric: str, over: FloatArray, under: FloatArray) -> Ratio:
    """The expansion about one version with these n and d (n,). BaselineUndefined where D is 0: nothing is positive."""
    size = float(under.mean()) if len(under) else 0.0
    if not size > 0:
        raise BaselineUndefined(metric)
    return Ratio(metric, float(over.mean()) / size, size)

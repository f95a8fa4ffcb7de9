"""A value and its interval as people read it."""

from __future__ import annotations

import math

from lepton_plugins.records.report import Estimate


def interval_text(estimate: Estimate) -> str:
    """`0.712 [0.701, 0.723]`, with the decimals that the interval's width makes meaningful.

    A dash where the metric is undefined.
    """
    if estimate.value is None:
        return "–"
    digits = _decimals(estimate)
    text = f"{estimate.value:,.{digits}f}"
    if estimate.low is None and estimate.high is None:
        return text
    low = "-∞" if estimate.low is None else f"{estimate.low:,.{digits}f}"
    high = "∞" if estimate.high is None else f"{estimate.high:,.{digits}f}"
    return f"{text} [{low}, {high}]"


def _decimals(estimate: Estimate) -> int:
    """So many that half the interval's width is between 5 and 50 units of the last one."""
    if estimate.low is None or estimate.high is None or estimate.high <= estimate.low:
        return 4 if abs(estimate.value or 0) < 1000 else 1
    return min(max(math.ceil(-math.log10((estimate.high - estimate.low) / 10)), 0), 6)

"""How long answers take: a version's latencies from what its report holds, and those of a mixture of versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, log, sqrt

#: The standard normal's quantiles at 0.5, 0.95 and 0.99.
_Z = (0.0, 1.6448536269514722, 2.3263478740408408)
#: Of a mixture's answers, how many may be later than its p99.
LATE = 0.01
_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Latency:
    """One version's latencies, in milliseconds, as measured alone: without waiting for others.

    An approximation: between p50, p95 and p99 the logarithm is taken as linear in the normal quantile (log-normal by
    pieces), and beyond them as on the nearest piece. So three figures give a whole distribution, exact at these three.
    """

    p50: float
    p95: float
    p99: float

    def later_than(self, ms: float) -> float:
        """The part of the calls that take longer."""
        at = log(max(ms, 1e-12))
        points = [log(max(value, 1e-12)) for value in (self.p50, self.p95, self.p99)]
        first = 0 if at < points[1] else 1
        low, high = points[first], points[first + 1]
        if high <= low:
            # Alike figures: no slope to go on with.
            return 0.0 if at >= high else 1.0 - _below(_Z[first])
        return 1.0 - _below(_Z[first] + (at - low) / (high - low) * (_Z[first + 1] - _Z[first]))


def late_part(shares: Sequence[float], latencies: Sequence[Latency], ms: float) -> float:
    """The part of a mixture's answers that take longer: distribution functions add up by their shares."""
    return sum(share * item.later_than(ms) for share, item in zip(shares, latencies, strict=True))


def mixture_p99(shares: Sequence[float], latencies: Sequence[Latency]) -> float:
    """Milliseconds that 99 % of a mixture's answers stay below; `shares` sum to one."""
    answering = [item for share, item in zip(shares, latencies, strict=True) if share > 0]
    low = log(max(min(item.p50 for item in answering), 1e-12))
    high = max(low, log(max(max(item.p99 for item in answering), 1e-12)))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if late_part(shares, latencies, exp(middle)) <= LATE else (middle, high)
    return exp(high)


def _below(z: float) -> float:
    return 0.5 * (1.0 + erf(z / sqrt(2.0)))

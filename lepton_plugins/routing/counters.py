"""What a router counts, for the data plane's metrics."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True)
class ArmCount:
    """One version's work: calls of its model, rows in them, seconds spent, and rows that failed by error code."""

    calls: int = 0
    rows: int = 0
    seconds: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class ShadowCount:
    """A shadow's work: rows compared and how many agreed; batches dropped by the full queue, and failed.

    `difference` is summed over the compared rows: how far the shadow's answer is from the one that was given.
    """

    compared: int = 0
    agreed: int = 0
    difference: float = 0.0
    dropped: int = 0
    failed: int = 0

    @property
    def agreement(self) -> float | None:
        """Part of the compared rows that agreed; None before the first."""
        return self.agreed / self.compared if self.compared else None

    @property
    def mean_difference(self) -> float | None:
        """Over the compared rows; None before the first."""
        return self.difference / self.compared if self.compared else None


class Counters:
    """Counts since the router was loaded; updated under a lock, read without."""

    def __init__(self) -> None:
        self.arms: defaultdict[str, ArmCount] = defaultdict(ArmCount)
        self.shadows: defaultdict[str, ShadowCount] = defaultdict(ShadowCount)
        self.lacking: defaultdict[str, int] = defaultdict(int)
        self.fallback_rows = 0
        self.forced_rows = 0
        self.holdout_rows = 0
        self.degraded_rows: defaultdict[str, int] = defaultdict(int)
        self._lock = Lock()

    def ran(self, version: str, rows: int, seconds: float) -> None:
        """A model answered."""
        with self._lock:
            count = self.arms[version]
            count.calls += 1
            count.rows += rows
            count.seconds += seconds

    def failed(self, version: str, code: str, rows: int) -> None:
        """Rows that a model should have answered and didn't."""
        with self._lock:
            failures = self.arms[version].failed
            failures[code] = failures.get(code, 0) + rows

    def degraded(self, version: str, rows: int) -> None:
        """Rows that a cheaper arm answers because this version had too much to do."""
        with self._lock:
            self.degraded_rows[version] += rows

    def lacked(self, column: str, rows: int) -> bool:
        """Rows without a column that the policy reads; whether these are the first."""
        with self._lock:
            first = column not in self.lacking
            self.lacking[column] += rows
        return first

    def add(self, *, fallback: int = 0, forced: int = 0, holdout: int = 0) -> None:
        """Rows that didn't go where the policy would have sent them."""
        with self._lock:
            self.fallback_rows += fallback
            self.forced_rows += forced
            self.holdout_rows += holdout

    def shadowed(
        self,
        version: str,
        *,
        compared: int = 0,
        agreed: int = 0,
        difference: float = 0.0,
        dropped: int = 0,
        failed: int = 0,
    ) -> None:
        """What became of a shadow's batch."""
        with self._lock:
            count = self.shadows[version]
            count.compared += compared
            count.agreed += agreed
            count.difference += difference
            count.dropped += dropped
            count.failed += failed

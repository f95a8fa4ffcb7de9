"""Counters of a server: plain numbers on the hot path; `exposition` makes Prometheus families of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from lepton_plugins.routing.store import FeedbackReceipt

if TYPE_CHECKING:
    from lepton_plugins.serving.reply import Reply

#: Upper bounds of the duration histogram in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of one server. `count_request` is called on the event loop only; copies are taken to read."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int], int] = {}
        self.rows: dict[tuple[str, str, str], int] = {}
        self.fallbacks: Counter[tuple[str, str, str]] = Counter()
        self.feedback: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, list[int]] = {}
        self.duration_sum: dict[str, float] = {}
        self.in_flight = 0

    def count_request(self, model: str, status: int, seconds: float, reply: Reply | None) -> None:
        """One answered prediction request; `reply` is None where it failed."""
        key = (model, reply.version, reply.role, status) if reply is not None else (model, "", "", status)
        self.requests[key] = self.requests.get(key, 0) + 1
        buckets = self.durations.get(model)
        if buckets is None:
            buckets = self.durations[model] = [0] * (len(BOUNDS) + 1)
            self.duration_sum[model] = 0.0
        buckets[bisect_left(BOUNDS, seconds)] += 1
        self.duration_sum[model] += seconds
        if reply is None:
            return
        if reply.versions is None:
            row = (model, reply.version, reply.role)
            self.rows[row] = self.rows.get(row, 0) + reply.rows
        else:
            for version, number in Counter(reply.versions).items():
                row = (model, version, reply.role_of(version))
                self.rows[row] = self.rows.get(row, 0) + number
        if reply.block.fallback is not None:
            served = reply.versions or [reply.version] * reply.rows
            for version, cause in zip(served, reply.block.fallback, strict=True):
                if cause is not None:
                    self.fallbacks[model, version, cause] += 1

    def count_feedback(self, model: str, receipt: FeedbackReceipt) -> None:
        self.feedback[model, "stored"] += receipt.stored
        self.feedback[model, "duplicate"] += receipt.duplicates
        self.feedback[model, "unknown"] += len(receipt.unknown)

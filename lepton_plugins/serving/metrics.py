"""Counters of a server: plain numbers on the hot path; `exposition` makes Prometheus families of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lepton_plugins.routing.store import FeedbackReceipt
from lepton_plugins.serving.counts import Counts, Key, read_counts

if TYPE_CHECKING:
    from lepton_plugins.serving.reply import Reply

#: Upper bounds of the duration histogram in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BUCKETS = (*map(str, BOUNDS), "+Inf")

#: Families that say how a worker stands now: of one that ended nothing is left.
GAUGES = frozenset({"in_flight", "loaded_at", "workers", "degrading"})


class Metrics:
    """Counts of one server: of this process, and with `directory` of all its workers.

    `count_request` is called on the event loop only.
    """

    def __init__(self, directory: Path | None = None, worker: int = 0) -> None:
        self._directory: Path | None = None
        self._own: Path | None = None
        self._lock = Lock()
        self.in_flight = 0
        if directory is None:
            self._counts = Counts(None, GAUGES)
        else:
            self.share(directory, worker)

    def share(self, directory: Path, worker: int) -> None:
        """Count where all workers look, as number `worker`; before anything is counted."""
        self._directory, self._own = directory, directory / f"{worker}.counts"
        self._counts = Counts(self._own, GAUGES)

    def count_request(self, model: str, status: int, seconds: float, reply: Reply | None) -> None:
        """One answered prediction request; `reply` is None where it failed."""
        add = self._counts.add
        code = "200" if status == 200 else str(status)
        bucket = _BUCKETS[bisect_left(BOUNDS, seconds)]
        add(("duration", model, bucket))
        add(("duration_sum", model), seconds)
        if reply is None:
            add(("requests", model, "", "", code))
            return
        version, role = reply.version, reply.role
        add(("requests", model, version, role, code))
        if reply.versions is None:
            add(("rows", model, version, role), reply.rows)
        else:
            for name, number in Counter(reply.versions).items():
                add(("rows", model, name, reply.role_of(name)), number)
        if reply.causes is not None:
            served = reply.versions or [version] * reply.rows
            for name, cause in zip(served, reply.causes, strict=True):
                if cause is not None:
                    add(("fallbacks", model, name, cause))

    def count_feedback(self, model: str, receipt: FeedbackReceipt) -> None:
        counted = {"stored": receipt.stored, "duplicate": receipt.duplicates, "unknown": len(receipt.unknown)}
        if receipt.learned is not None:
            counted |= {"learned": receipt.learned, "waiting": receipt.waiting}
        with self._lock:
            for result, number in counted.items():
                self._counts.add(("feedback", model, result), number)

    def note(self, totals: dict[Key, float], seen: dict[Key, float]) -> None:
        """Counters that others keep: what they have grown by since `seen`, which is brought up to date."""
        with self._lock:
            for key, total in totals.items():
                grown = total - seen.get(key, 0)
                if grown or key not in seen:
                    self._counts.add(key, grown)
                    seen[key] = total

    def show(self, gauges: dict[Key, float]) -> None:
        """How this process stands now; gauges that aren't named are zero."""
        with self._lock:
            for key in self._counts.read():
                if key[0] in GAUGES and key not in gauges:
                    self._counts.set(key, 0.0)
            for key, value in gauges.items():
                self._counts.set(key, value)

    def total(self) -> dict[Key, float]:
        """All workers' numbers together."""
        sources = [self._counts.read()]
        if self._directory is not None:
            sources += [read_counts(file) for file in self._directory.glob("*.counts") if file != self._own]
        return together(sources)

    @property
    def shared(self) -> bool:
        """Whether other processes read them."""
        return self._directory is not None


def together(sources: Iterable[dict[Key, float]]) -> dict[Key, float]:
    """Sums; of `loaded_at` the latest."""
    total: dict[Key, float] = {}
    for source in sources:
        for key, value in source.items():
            before = total.get(key, 0.0)
            total[key] = max(before, value) if key[0] == "loaded_at" else before + value
    return total

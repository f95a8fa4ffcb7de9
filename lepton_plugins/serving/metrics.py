"""Counters of a server: plain numbers on the hot path, Prometheus families when somebody scrapes."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lepton_plugins import __version__
from lepton_plugins.routing.store import FeedbackReceipt

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lepton_plugins.serving.reply import Reply
    from lepton_plugins.serving.served import Served
    from lepton_plugins.serving.state import ServerState

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


class Collector:
    """What prometheus-client's default registry asks: all servers of this process, summed."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[ServerState, Served]] = {}
        self._registered = False

    def set(self, state: ServerState, served: Served) -> None:
        """Show this server, with what it serves now."""
        from prometheus_client import REGISTRY

        self._servers[id(state)] = (state, served)
        if not self._registered:
            self._registered = True
            REGISTRY.register(self)

    def remove(self, state: ServerState) -> None:
        self._servers.pop(id(state), None)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        servers = list(self._servers.values())
        counts = [state.metrics for state, _ in servers]

        def counter(
            name: str, text: str, labels: tuple[str, ...], sources: Iterable[dict[tuple[object, ...], int]]
        ) -> Metric:
            total: Counter[tuple[object, ...]] = Counter()
            for source in sources:
                total.update(source.copy())
            family = CounterMetricFamily(name, text, labels=labels)
            for key, value in sorted(total.items(), key=lambda item: tuple(map(str, item[0]))):
                family.add_metric([str(part) for part in key], value)
            return family

        yield counter(
            "lepton_requests",
            "Prediction requests by the version that answered (mixed: several), its role and the HTTP status.",
            ("model", "version", "role", "code"),
            [m.requests for m in counts],
        )
        yield counter(
            "lepton_rows", "Rows answered, by version.", ("model", "version", "role"), [m.rows for m in counts]
        )
        yield counter(
            "lepton_fallback_rows",
            "Rows that another version answered than the chosen one, by cause.",
            ("model", "version", "cause"),
            [m.fallbacks for m in counts],
        )
        yield counter(
            "lepton_feedback", "Feedback by what became of it.", ("model", "result"), [m.feedback for m in counts]
        )

        durations = HistogramMetricFamily(
            "lepton_request_duration_seconds",
            "Time to answer a prediction request, its body's arrival included.",
            labels=["model"],
        )
        for model in sorted({model for m in counts for model in m.durations}):
            columns = [m.durations[model] for m in counts if model in m.durations]
            buckets, running = [], 0
            for bound, number in zip((*map(str, BOUNDS), "+Inf"), map(sum, zip(*columns, strict=True)), strict=True):
                running += number
                buckets.append((bound, running))
            durations.add_metric([model], buckets, sum(m.duration_sum.get(model, 0.0) for m in counts))
        yield durations

        weights = GaugeMetricFamily(
            "lepton_version_weight_ratio",
            "The plan's expected share of the traffic.",
            labels=["model", "version", "role"],
        )
        plans = GaugeMetricFamily("lepton_plan_info", "The plan that answers.", labels=["model", "digest", "policy"])
        loaded = GaugeMetricFamily("lepton_plan_loaded_timestamp_seconds", "When it was loaded.", labels=["model"])
        in_flight = GaugeMetricFamily("lepton_requests_in_flight", "Requests being answered.", labels=["model"])
        dropped = CounterMetricFamily(
            "lepton_decision_log_dropped", "Decisions that the log's full queue dropped.", labels=["model"]
        )
        reloads = CounterMetricFamily("lepton_reloads", "New plans by what became of them.", labels=["model", "result"])
        for state, served in servers:
            for arm in served.plan.arms:
                role = "champion" if arm.version == served.plan.default else "challenger"
                weights.add_metric([served.model, arm.version, role], arm.share)
            plans.add_metric([served.model, served.plan.digest, served.plan.policy.kind], 1)
            loaded.add_metric([served.model], state.reload.loaded_at)
            in_flight.add_metric([served.model], state.metrics.in_flight)
            dropped.add_metric([served.model], state.log.dropped if state.log is not None else 0)
            reloads.add_metric([served.model, "swapped"], state.reload.swaps)
            reloads.add_metric([served.model, "failed"], state.reload.failures)
        yield from (weights, plans, loaded, in_flight, dropped, reloads)

        build = GaugeMetricFamily("lepton_build_info", "What runs here.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build


#: One for the process: the default registry refuses a name twice.
COLLECTOR = Collector()

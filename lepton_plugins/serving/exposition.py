"""What prometheus-client's default registry is told of the servers in this process."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lepton_plugins import __version__
from lepton_plugins.serving.metrics import BOUNDS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lepton_plugins.serving.served import Served
    from lepton_plugins.serving.state import ServerState

#: Counters by name: what they count, their labels, and the attribute of Metrics that holds them.
_COUNTERS = (
    (
        "lepton_requests",
        "Prediction requests by the version that answered (mixed: several), its role and the HTTP status.",
        ("model", "version", "role", "code"),
        "requests",
    ),
    ("lepton_rows", "Rows answered.", ("model", "version", "role"), "rows"),
    (
        "lepton_fallback_rows",
        "Rows that another version answered than the chosen one, by cause.",
        ("model", "version", "cause"),
        "fallbacks",
    ),
    ("lepton_feedback", "Feedback by what became of it.", ("model", "result"), "feedback"),
)


class Collector:
    """Shows every server of the process; where two serve the same model their counts are summed."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[ServerState, Served]] = {}
        self._registered = False

    def show(self, state: ServerState, served: Served) -> None:
        """From now on show this server, with what it serves."""
        from prometheus_client import REGISTRY

        self._servers[id(state)] = (state, served)
        if not self._registered:
            self._registered = True
            REGISTRY.register(self)

    def hide(self, state: ServerState) -> None:
        self._servers.pop(id(state), None)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        servers = list(self._servers.values())
        for name, text, labels, attribute in _COUNTERS:
            yield _counter(name, text, labels, [getattr(state.metrics, attribute) for state, _ in servers])
        yield _durations([state for state, _ in servers])
        yield from _gauges(servers)


def _counter(name: str, text: str, labels: Sequence[str], sources: Iterable[Mapping[Any, int]]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    total: Counter[tuple[str, ...]] = Counter()
    for source in sources:
        for key, value in dict(source).items():
            total[tuple(map(str, key))] += value
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in sorted(total.items()):
        family.add_metric(label_values, value)
    return family


def _durations(states: Sequence[ServerState]) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "lepton_request_duration_seconds",
        "Time to answer a prediction request, its body's arrival included.",
        labels=["model"],
    )
    for model in sorted({model for state in states for model in state.metrics.durations}):
        counts = [state.metrics.durations[model] for state in states if model in state.metrics.durations]
        buckets: list[Any] = []
        below = 0
        for bound, *numbers in zip((*map(str, BOUNDS), "+Inf"), *counts, strict=True):
            below += sum(numbers)
            buckets.append((bound, below))
        family.add_metric([model], buckets, sum(state.metrics.duration_sum.get(model, 0.0) for state in states))
    return family


def _gauges(servers: Sequence[tuple[ServerState, Served]]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    weights = GaugeMetricFamily(
        "lepton_version_weight_ratio", "The plan's expected share of the traffic.", labels=["model", "version", "role"]
    )
    plans = GaugeMetricFamily("lepton_plan_info", "The plan that answers.", labels=["model", "digest", "policy"])
    loaded = GaugeMetricFamily("lepton_plan_loaded_timestamp_seconds", "When it was loaded.", labels=["model"])
    in_flight = GaugeMetricFamily("lepton_requests_in_flight", "Requests being answered.", labels=["model"])
    dropped = CounterMetricFamily(
        "lepton_decision_log_dropped", "Decisions that the log's full queue dropped.", labels=["model"]
    )
    reloads = CounterMetricFamily("lepton_reloads", "New plans by what became of them.", labels=["model", "result"])
    agreement = GaugeMetricFamily(
        "lepton_shadow_agreement_ratio", "Rows on which the shadow agreed.", labels=["model", "version"]
    )
    shadow_rows = CounterMetricFamily(
        "lepton_shadow_rows", "Rows that a shadow answered too.", labels=["model", "version"]
    )
    shadow_dropped = CounterMetricFamily(
        "lepton_shadow_dropped", "Batches that a shadow's full queue dropped.", labels=["model", "version"]
    )
    missing = CounterMetricFamily(
        "lepton_policy_missing", "Rows that lacked what the policy looks for.", labels=["model", "name"]
    )
    build = GaugeMetricFamily("lepton_build_info", "What runs here.", labels=["version", "python"])
    build.add_metric([__version__, platform.python_version()], 1)
    for state, served in servers:
        model = [served.model]
        for arm in served.plan.arms:
            role = "champion" if arm.version == served.plan.default else "challenger"
            weights.add_metric([*model, arm.version, role], arm.share)
        for version, shadow in dict(served.router.counters.shadows).items():
            if shadow.agreement is not None:
                agreement.add_metric([*model, version], shadow.agreement)
            shadow_rows.add_metric([*model, version], shadow.compared)
            shadow_dropped.add_metric([*model, version], shadow.dropped)
        for name, rows in dict(served.router.missing).items():
            missing.add_metric([*model, name], rows)
        plans.add_metric([*model, served.plan.digest, served.plan.policy.kind], 1)
        loaded.add_metric(model, state.reload.loaded_at)
        in_flight.add_metric(model, state.metrics.in_flight)
        dropped.add_metric(model, state.log.dropped if state.log is not None else 0)
        reloads.add_metric([*model, "swapped"], state.reload.swaps)
        reloads.add_metric([*model, "failed"], state.reload.failures)
    yield from (agreement, shadow_rows, shadow_dropped, missing, weights, plans)
    yield from (loaded, in_flight, dropped, reloads, build)


#: One for the process: the default registry refuses a name twice.
COLLECTOR = Collector()

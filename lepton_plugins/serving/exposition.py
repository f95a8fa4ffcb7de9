"""What prometheus-client's default registry is told of the servers in this process, and of their workers."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lepton_plugins import __version__
from lepton_plugins.serving.counts import Key
from lepton_plugins.serving.metrics import BOUNDS, together

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lepton_plugins.serving.served import Served
    from lepton_plugins.serving.state import ServerState

#: Counters by family: their name, what they count, their labels.
_COUNTERS = {
    "requests": (
        "lepton_requests",
        "Prediction requests by the version that answered (mixed: several), its role and the HTTP status.",
        ("model", "version", "role", "code"),
    ),
    "rows": ("lepton_rows", "Rows answered.", ("model", "version", "role")),
    "fallbacks": (
        "lepton_fallback_rows",
        "Rows that another version answered than the chosen one, by cause.",
        ("model", "version", "cause"),
    ),
    "feedback": ("lepton_feedback", "Feedback by what became of it.", ("model", "result")),
    "dropped": ("lepton_decision_log_dropped", "Decisions that the log's full queue dropped.", ("model",)),
    "reloads": ("lepton_reloads", "New plans by what became of them.", ("model", "result")),
    "shadow_rows": ("lepton_shadow_rows", "Rows that a shadow answered too.", ("model", "version")),
    "shadow_difference": (
        "lepton_shadow_difference",
        "How far a shadow's answers were from those given, summed over rows.",
        ("model", "version"),
    ),
    "shadow_dropped": (
        "lepton_shadow_dropped",
        "Batches that a shadow's full queue dropped.",
        ("model", "version"),
    ),
    "version_loads": ("lepton_version_loads", "Versions that were loaded when they were asked for.", ("model",)),
    "version_evictions": ("lepton_version_evictions", "Versions that were given back to make room.", ("model",)),
    "model_calls": (
        "lepton_model_calls",
        "Calls of a version's model; its rows over its calls are how many were answered together.",
        ("model", "version"),
    ),
    "model_rows": ("lepton_model_rows", "Rows that a version's model answered.", ("model", "version")),
    "model_seconds": ("lepton_model_seconds", "Time in calls of a version's model.", ("model", "version")),
    "missing": ("lepton_policy_missing", "Rows that lacked what the policy looks for.", ("model", "name")),
}

_GAUGES = {
    "in_flight": ("lepton_requests_in_flight", "Requests being answered.", ("model",)),
    "loaded_at": ("lepton_plan_loaded_timestamp_seconds", "When it was loaded.", ("model",)),
    "degrading": (
        "lepton_version_degrading",
        "Processes in which a cheaper version answers some of this one's rows now.",
        ("model", "version"),
    ),
    "workers": ("lepton_workers", "Processes by the plan that they answer with.", ("model", "digest")),
}


def publish(state: ServerState, served: Served) -> None:
    """Bring the counts that a router, a log and the reloading keep to the server's own, where all workers see them."""
    model = served.model
    publish_router(state, served)
    kept: dict[Key, float] = {
        ("dropped", model): state.log.dropped if state.log is not None else 0,
        ("reloads", model, "swapped"): state.reload.swaps,
        ("reloads", model, "failed"): state.reload.failures,
    }
    state.metrics.note(kept, state.published)
    state.metrics.show(
        {
            ("in_flight", model): state.metrics.in_flight,
            ("loaded_at", model): state.reload.loaded_at,
            ("workers", model, served.plan.digest): 1,
            **{("degrading", model, version): 1 for version in served.router.degrading},
        }
    )


def publish_router(state: ServerState, served: Served) -> None:
    """The part of `publish` that a replaced router has, too."""
    model = served.model
    router: dict[Key, float] = {("missing", model, name): rows for name, rows in dict(served.router.missing).items()}
    if (shelf := served.router.shelf) is not None:
        router["version_loads", model] = shelf.loads
        router["version_evictions", model] = shelf.evictions
    for version, count in dict(served.router.counters.arms).items():
        router["model_calls", model, version] = count.calls
        router["model_rows", model, version] = count.rows
        router["model_seconds", model, version] = count.seconds
    for version, shadow in dict(served.router.counters.shadows).items():
        router["shadow_rows", model, version] = shadow.compared
        router["shadow_agreed", model, version] = shadow.agreed
        router["shadow_difference", model, version] = shadow.difference
        router["shadow_dropped", model, version] = shadow.dropped
    state.metrics.note(router, served.published)


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
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        servers = list(self._servers.values())
        for state, served in servers:
            publish(state, served)
        total = together(state.metrics.total() for state, _ in servers)
        families: defaultdict[str, dict[Key, float]] = defaultdict(dict)
        for (family, *labels), value in sorted(total.items()):
            families[family][tuple(labels)] = value
        for family, (name, text, names) in _COUNTERS.items():
            yield _filled(CounterMetricFamily(name, text, labels=names), families[family])
        yield _durations(families["duration"], families["duration_sum"])
        in_use = {labels: value for labels, value in families["workers"].items() if value}
        for family, (name, text, names) in _GAUGES.items():
            numbers = in_use if family == "workers" else families[family]
            yield _filled(GaugeMetricFamily(name, text, labels=names), numbers)
        agreed = {
            labels: families["shadow_agreed"].get(labels, 0.0) / rows
            for labels, rows in families["shadow_rows"].items()
            if rows
        }
        agreement = ("lepton_shadow_agreement_ratio", "Rows on which the shadow agreed.")
        yield _filled(GaugeMetricFamily(*agreement, labels=("model", "version")), agreed)
        yield from _plans([served for _, served in servers])


def _filled(family: Any, numbers: dict[Key, float]) -> Metric:
    for labels, value in numbers.items():
        family.add_metric(labels, value)
    filled: Metric = family
    return filled


def _durations(counts: dict[Key, float], sums: dict[Key, float]) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "lepton_request_duration_seconds",
        "Time to answer a prediction request, its body's arrival included.",
        labels=["model"],
    )
    for (model,), seconds in sums.items():
        buckets: list[Any] = []
        below = 0.0
        for bound in (*map(str, BOUNDS), "+Inf"):
            below += counts.get((model, bound), 0.0)
            buckets.append((bound, below))
        family.add_metric([model], buckets, seconds)
    return family


def _plans(served: Sequence[Served]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    weights = GaugeMetricFamily(
        "lepton_version_weight_ratio", "The plan's expected share of the traffic.", labels=["model", "version", "role"]
    )
    plans = GaugeMetricFamily("lepton_plan_info", "The plan that answers.", labels=["model", "digest", "policy"])
    build = GaugeMetricFamily("lepton_build_info", "What runs here.", labels=["version", "python"])
    build.add_metric([__version__, platform.python_version()], 1)
    for one in served:
        for arm in one.plan.arms:
            role = "champion" if arm.version == one.plan.default else "challenger"
            weights.add_metric([one.model, arm.version, role], arm.share)
        plans.add_metric([one.model, one.plan.digest, one.plan.policy.kind], 1)
    yield from (weights, plans, build)


#: One for the process: the default registry refuses a name twice.
COLLECTOR = Collector()

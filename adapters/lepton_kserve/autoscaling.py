"""How a predictor grows with its load: the replicas it may have, and what the autoscaler looks at."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from lepton_kserve.options import KserveOptions
from lepton_plugins.errors import InvalidInput
from lepton_plugins.needs import Need

SCALER = "serving.kserve.io/autoscalerClass"
_KNATIVE = "knative"
#: What each autoscaler can look at, first what it looks at by default.
_METRICS = {"hpa": ("cpu", "memory"), "keda": ("cpu", "memory", "rps"), _KNATIVE: ("rps", "concurrency")}
_GIVEN = ("scaleMetric", "scaleMetricType", "scaleTarget", "autoScaling")
#: Per cent of the memory that is asked for, beyond which another replica is started.
_MEMORY = 80


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a service's growth is decided by; `annotations` are the InferenceService's, and get the autoscaler's."""

    need: Need
    headroom: float
    name: str
    namespace: str | None
    options: KserveOptions
    annotations: dict[str, Any]
    knative: bool

    def scale(self, predictor: dict[str, Any]) -> None:
        """Replicas as options, your manifest or the plan say; a metric where they may grow or the options name one.

        CPU: what is left of it when the head-room is used. Requests: those of one replica, as the plan's figures say.
        """
        o, need = self.options, self.need
        least = o.min_replicas if o.min_replicas is not None else predictor.get("minReplicas", need.replicas)
        predictor["minReplicas"] = least
        most = max(least, need.replicas, need.most)
        predictor["maxReplicas"] = o.max_replicas or predictor.get("maxReplicas", most)
        asked = o.autoscaler is not None or o.scale_on is not None or o.scale_target is not None
        if not asked and (any(key in predictor for key in _GIVEN) or not need.pools):
            return
        if not asked and predictor["maxReplicas"] <= least:
            return
        for key in _GIVEN:
            predictor.pop(key, None)
        if o.autoscaler is not None and not self.knative:
            self.annotations[SCALER] = o.autoscaler
        if o.autoscaler == "none":
            predictor["maxReplicas"] = least
        else:
            predictor |= self._looks_at()

    def _looks_at(self) -> dict[str, Any]:
        o = self.options
        scaler = _KNATIVE if self.knative else str(self.annotations.get(SCALER, "hpa"))
        if self.knative and o.autoscaler is not None:
            raise InvalidInput(
                f"--autoscaler {o.autoscaler}: found it in Knative mode, which scales by its own; leave it out."
            )
        if scaler not in _METRICS:
            return {}
        by_requests = scaler == "keda" and o.prometheus is not None
        metric = o.scale_on or ("rps" if by_requests else _METRICS[scaler][0])
        if metric not in _METRICS[scaler]:
            known = ", ".join(_METRICS[scaler])
            raise InvalidInput(f"--scale-on {metric}: {scaler} can't look at that; expected one of {known}.")
        target = o.scale_target or self._target(metric)
        if scaler != "keda":
            return {"scaleMetric": metric, "scaleTarget": target}
        if metric != "rps":
            wanted = {"name": metric, "target": {"type": "Utilization", "averageUtilization": target}}
            return {"autoScaling": {"metrics": [{"type": "Resource", "resource": wanted}]}}
        if o.prometheus is None:
            raise InvalidInput(
                "--scale-on rps: KEDA asks Prometheus for that; expected --prometheus http://prometheus:9090"
            )
        query = _query(self.name, self.namespace)
        found = {"backend": "prometheus", "serverAddress": o.prometheus, "query": query}
        # KServe hands the value on as KEDA's threshold, which counts for each replica.
        external = {"metric": found, "target": {"type": "Value", "value": str(target)}}
        return {"autoScaling": {"metrics": [{"type": "External", "external": external}]}}

    def _target(self, metric: str) -> int:
        if metric == "cpu":
            return round(100 / (1 + self.headroom))
        if metric == "memory":
            return _MEMORY
        figure = self.need.requests if metric == "rps" else self.need.at_once
        if figure is None:
            missing = "a load (resources.load)" if metric == "rps" else "its cores (resources.pools)"
            raise InvalidInput(
                f"{self.name}: --scale-on {metric}: the plan doesn't say {missing}; expected --scale-target NUMBER"
            )
        return max(ceil(figure), 1)


def _query(name: str, namespace: str | None) -> str:
    where = f'namespace="{namespace}",' if namespace is not None else ""
    return f'sum(rate(lepton_requests_total{{{where}pod=~"{name}-predictor-.*"}}[1m]))'

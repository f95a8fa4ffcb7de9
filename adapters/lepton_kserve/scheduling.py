"""Where a plan's node pool says that the predictor runs, and how it grows with the load."""

from __future__ import annotations

from math import ceil
from typing import Any

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.spec import Pool


def pool_of(plan: DeploymentPlan) -> Pool | None:
    """The pool on which all versions' one process runs; None without pools."""
    names = {name for arm in plan.arms for name in arm.resources.pools}
    return plan.spec.resources.pools[names.pop()] if len(names) == 1 else None


def place(predictor: dict[str, Any], plan: DeploymentPlan, name: str) -> None:
    """The pool's labels and tolerations beside your own; with `survive: node`, no two replicas on one node."""
    pool = pool_of(plan)
    if pool is None:
        return
    if pool.labels:
        predictor["nodeSelector"] = {**pool.labels, **(predictor.get("nodeSelector") or {})}
    own = [item.model_dump(exclude_none=True) for item in pool.tolerations]
    yours = predictor.get("tolerations") or []
    if own:
        predictor["tolerations"] = [*yours, *(item for item in own if item not in yours)]
    if plan.spec.resources.survive == "node":
        term = {
            "labelSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": name}},
            "topologyKey": "kubernetes.io/hostname",
        }
        apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        predictor.setdefault("affinity", apart)


def most_replicas(plan: DeploymentPlan, least: int) -> int:
    """As many as the pool has nodes: one process a node."""
    pool = pool_of(plan)
    return max(least, pool.nodes) if pool is not None else least


def scale(predictor: dict[str, Any], plan: DeploymentPlan, mode: str) -> None:
    """What the autoscaler looks at, where it has room and nothing of yours says so.

    Standard: the CPU that is left when the head-room is used. Knative: requests a second of one replica.
    """
    resources, given = plan.spec.resources, ("scaleMetric", "scaleTarget", "autoScaling")
    if pool_of(plan) is None or predictor["maxReplicas"] <= predictor["minReplicas"]:
        return
    if any(key in predictor for key in given):
        return
    if mode in ("Knative", "Serverless"):
        replicas = max(arm.resources.replicas for arm in plan.arms)
        requests = (resources.load or 0.0) / resources.batch / replicas
        predictor |= {"scaleMetric": "rps", "scaleTarget": max(ceil(requests), 1)}
    else:
        predictor |= {"scaleMetric": "cpu", "scaleTarget": round(100 / (1 + resources.headroom))}

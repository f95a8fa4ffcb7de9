"""On which nodes a predictor runs: a plan's node pools, for Kubernetes."""

from __future__ import annotations

from typing import Any, Literal

from lepton_plugins.errors import InvalidInput
from lepton_plugins.needs import Need


def place(predictor: dict[str, Any], need: Need, name: str) -> None:
    """The pools' labels and tolerations beside your own; where each replica has a node, no two on one."""
    pools = list(need.pools.values())
    if len(pools) == 1 and pools[0].labels:
        predictor["nodeSelector"] = {**pools[0].labels, **(predictor.get("nodeSelector") or {})}
    own = [item.model_dump(exclude_none=True) for pool in pools for item in pool.tolerations]
    yours = predictor.get("tolerations") or []
    wanted = [item for index, item in enumerate(own) if item not in yours and item not in own[:index]]
    if wanted:
        predictor["tolerations"] = [*yours, *wanted]
    affinity: dict[str, Any] = {}
    if len(pools) > 1 and all(pool.labels for pool in pools):
        terms = [
            {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in labels]}
            for labels in (sorted(pool.labels.items()) for pool in pools)
        ]
        required = {"nodeSelectorTerms": terms}
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    if need.survives:
        term = {
            "labelSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": name}},
            "topologyKey": "kubernetes.io/hostname",
        }
        affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    if affinity:
        predictor.setdefault("affinity", affinity)


def agreed(need: Need, what: Literal["gpu_key", "device_class"]) -> str | None:
    """What all of a predictor's pools say of their devices; InvalidInput where they differ: its pods are alike."""
    found = {getattr(pool, what) for pool in need.pools.values()}
    if len(found) > 1:
        said = ", ".join(f"{name}: {getattr(pool, what) or 'none'}" for name, pool in need.pools.items())
        raise InvalidInput(
            f"resources.pools: found another {what} on each ({said}), expected one: a version's pods are alike."
        )
    return found.pop() if found else None

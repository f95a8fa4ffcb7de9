"""The plan as a ConfigMap, and how the pod mounts it as part of a deployment directory."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from lepton_plugins.errors import PlanTooLargeForTarget
from lepton_plugins.records.plan import DeploymentPlan

#: Kubernetes' limit on a ConfigMap, less its own fields.
LIMIT = (1 << 20) - 4096
PLAN_KEY = "plan.json"
VOLUME = "plan"


def plan_map(
    plan: DeploymentPlan, policy_files: Mapping[str, bytes], name: str, namespace: str | None
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The ConfigMap, the pod's volume and the container's mounts. A new plan has a new name, so pods roll."""
    text = plan.content.decode()
    binary = {f"policy.{index}": policy_files[path] for index, path in enumerate(sorted(policy_files))}
    size = len(text.encode()) + sum(4 * ((len(content) + 2) // 3) for content in binary.values())
    if size > LIMIT:
        raise PlanTooLargeForTarget("a ConfigMap", size, LIMIT)
    metadata: dict[str, Any] = {"name": f"{name}-plan-{plan.digest.removeprefix('sha256:')[:12]}"}
    if namespace is not None:
        metadata["namespace"] = namespace
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": {PLAN_KEY: text},
    }
    if binary:
        content["binaryData"] = {key: base64.b64encode(value).decode() for key, value in binary.items()}
    paths = [f"policy/{path}" for path in sorted(policy_files)]
    items = [{"key": PLAN_KEY, "path": PLAN_KEY}]
    items += [{"key": key, "path": path} for key, path in zip(binary, paths, strict=True)]
    volume = {"name": VOLUME, "configMap": {"name": metadata["name"], "items": items}}
    places = [PLAN_KEY, *(["policy"] if paths else [])]
    mounts = [{"name": VOLUME, "mountPath": f"/mnt/{place}", "subPath": place, "readOnly": True} for place in places]
    return content, volume, mounts

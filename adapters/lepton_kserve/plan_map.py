"""The plan as a ConfigMap, and how the pod mounts it as part of a deployment directory."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from lepton_plugins.canonical import digest_bytes, digest_json
from lepton_plugins.errors import PlanTooLargeForTarget
from lepton_plugins.records.plan import DeploymentPlan

#: Kubernetes' limit on a ConfigMap, less its own fields.
LIMIT = (1 << 20) - 4096
PLAN_KEY = "plan.json"
VOLUME = "plan"


def plan_map(
    plan: DeploymentPlan,
    policy_files: Mapping[str, bytes],
    name: str,
    namespace: str | None,
    services: Mapping[str, bytes] | None = None,
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The ConfigMap, the pod's volume and the container's mounts. Another content has another name, so pods roll.

    `services` are the files below the deployment directory that say where versions' services are, by path.
    """
    files = {f"policy/{path}": content for path, content in policy_files.items()} | dict(services or {})
    text = plan.content.decode()
    binary = {f"{path.partition('/')[0]}.{index}": files[path] for index, path in enumerate(sorted(files))}
    size = len(text.encode()) + sum(4 * ((len(content) + 2) // 3) for content in binary.values())
    if size > LIMIT:
        raise PlanTooLargeForTarget("a ConfigMap", size, LIMIT)
    told = {path: digest_bytes(content) for path, content in (services or {}).items()}
    digest = digest_json({"plan": plan.digest, **told}) if told else plan.digest
    metadata: dict[str, Any] = {"name": f"{name}-plan-{digest.removeprefix('sha256:')[:12]}"}
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
    items = [{"key": PLAN_KEY, "path": PLAN_KEY}]
    items += [{"key": key, "path": path} for key, path in zip(binary, sorted(files), strict=True)]
    volume = {"name": VOLUME, "configMap": {"name": metadata["name"], "items": items}}
    places = [PLAN_KEY, *sorted({path.partition("/")[0] for path in files})]
    mounts = [{"name": VOLUME, "mountPath": f"/mnt/{place}", "subPath": place, "readOnly": True} for place in places]
    return content, volume, mounts

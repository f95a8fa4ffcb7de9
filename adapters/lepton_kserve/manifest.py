"""The InferenceService: KServe's v1beta1 API, a custom predictor that runs the data plane."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from lepton_kserve.image import USER
from lepton_kserve.options import KserveOptions
from lepton_kserve.rules import STANDARD
from lepton_kserve.sources import storage_uri
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.plan import DeploymentPlan

CONTAINER = "kserve-container"
PORT = 8080
#: The deployment directory in the pod; KServe's storage initializer fills MODELS.
DEPLOYMENT = "/mnt"
MODELS = f"{DEPLOYMENT}/models"
STATE = "/var/lib/lepton"

#: What a cluster writes into the manifests it shows; none of it belongs into Git.
_SERVER_SIDE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def inference_service(
    plan: DeploymentPlan, name: str, image: str, plan_volume: Mapping[str, Any], mounts: Sequence[Any], o: KserveOptions
) -> dict[str, Any]:
    """The manifest of a plan; what `o.manifest` holds stays unless the router needs it otherwise."""
    mine = _yours(o)
    metadata = mine.setdefault("metadata", {})
    metadata["name"] = name
    if o.namespace is not None:
        metadata["namespace"] = o.namespace
    annotations = metadata.setdefault("annotations", {})
    annotations.setdefault("serving.kserve.io/deploymentMode", "Standard")
    annotations |= {
        "lepton.plan": plan.digest,
        "prometheus.kserve.io/path": "/metrics",
        "prometheus.kserve.io/port": str(PORT),
        "serving.kserve.io/enable-prometheus-scraping": "true",
    }
    predictor = mine.setdefault("spec", {}).setdefault("predictor", {})
    replaced = _replaced(predictor)
    predictor["storageUris"] = _storage(plan, o.models)
    sidecars = [item for item in predictor.get("containers", []) if item.get("name") != CONTAINER]
    container = _container(plan, name, image, mounts, o, replaced.get("resources"))
    predictor["containers"] = [container, *sidecars]
    own = [dict(plan_volume), {"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    names = {volume["name"] for volume in own}
    predictor["volumes"] = [*own, *(item for item in predictor.get("volumes", []) if item.get("name") not in names)]
    predictor.setdefault("automountServiceAccountToken", False)
    security = predictor.setdefault("securityContext", {})
    for key, value in _pod_security().items():
        security.setdefault(key, value)
    if o.service_account is not None:
        predictor["serviceAccountName"] = o.service_account
    least = o.min_replicas if o.min_replicas is not None else predictor.get("minReplicas", _replicas(plan))
    predictor["minReplicas"] = least
    predictor["maxReplicas"] = o.max_replicas or predictor.get("maxReplicas", max(least, _replicas(plan)))
    return mine


def _yours(o: KserveOptions) -> dict[str, Any]:
    """The user's manifest without what a cluster adds, or an empty InferenceService."""
    import yaml

    if o.manifest is None:
        return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    try:
        content = yaml.safe_load(o.manifest.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{o.manifest}: can't be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or content.get("kind") != "InferenceService":
        raise InvalidInput(f"{o.manifest}: expected one manifest of the kind InferenceService.")
    mine = copy.deepcopy(content)
    mine.pop("status", None)
    metadata = mine.get("metadata") or {}
    for key in _SERVER_SIDE:
        metadata.pop(key, None)
    (metadata.get("annotations") or {}).pop(_LAST_APPLIED, None)
    return mine


def _replaced(predictor: dict[str, Any]) -> dict[str, Any]:
    """Take out what the router stands in for; returns it."""
    found: dict[str, Any] = {}
    for kind in STANDARD:
        found |= predictor.pop(kind, None) or {}
    for container in predictor.get("containers") or ():
        if container.get("name") == CONTAINER:
            found |= container
    predictor.pop("storageUris", None)
    return found


def _storage(plan: DeploymentPlan, models: str | None) -> list[dict[str, str]]:
    folders = {arm.artifact_digest.removeprefix("sha256:"): arm for arm in plan.arms}
    uris = ((folder, storage_uri(arm, folder, models)) for folder, arm in sorted(folders.items()))
    return [{"uri": uri, "mountPath": f"{MODELS}/{folder}"} for folder, uri in uris]


def _container(
    plan: DeploymentPlan, name: str, image: str, mounts: Sequence[Any], o: KserveOptions, resources: Any
) -> dict[str, Any]:
    service = f"{name}-predictor"
    hosts = [service, *([f"{service}.{o.namespace}", f"{service}.{o.namespace}.svc"] if o.namespace else [])]
    arguments = ["--deployment", DEPLOYMENT, "--port", str(PORT), "--decisions", f"file://{STATE}/decisions"]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-m", "lepton_kserve.predictor"],
        "args": [*arguments, *(part for host in hosts for part in ("--allowed-host", host))],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/v2/health/live", period=10, failures=3),
        "readinessProbe": _probe("/v2/health/ready", period=5, failures=3),
        "startupProbe": _probe("/v2/health/ready", period=2, failures=150),
        "resources": _resources(plan, o, resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            *mounts,
            {"name": "state", "mountPath": STATE},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    if o.token_secret is not None:
        secret = {"secretKeyRef": {"name": o.token_secret, "key": "token"}}
        container["env"] = [{"name": "LEPTON_TOKEN", "valueFrom": secret}]
    return container


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "periodSeconds": period, "failureThreshold": failures}


def _pod_security() -> dict[str, Any]:
    """Pod Security "restricted"; the group lets the process write to its volumes."""
    return {
        "fsGroup": USER,
        "runAsGroup": USER,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _replicas(plan: DeploymentPlan) -> int:
    return max(arm.resources.replicas for arm in plan.arms)


def _resources(plan: DeploymentPlan, o: KserveOptions, yours: Any) -> dict[str, Any]:
    """Of one replica: the option's, else your manifest's, else the plan's sum over the arms."""
    if yours and o.cpu is None and o.memory is None:
        return dict(yours)
    replicas = _replicas(plan)
    cpu = o.cpu or sum(arm.resources.cpu or 0 for arm in plan.arms) / replicas or 1.0
    memory = o.memory or sum(arm.resources.memory or 0 for arm in plan.arms) / replicas or 2**30
    gpus = ceil(sum(arm.resources.gpu or 0 for arm in plan.arms) / replicas)
    request = {"cpu": f"{ceil(cpu * 1000)}m", "memory": f"{ceil(memory / 2**20)}Mi"}
    limits = request | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"requests": request, "limits": limits}
